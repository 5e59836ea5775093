"""What a `Split` refuses: one rule per function, one sentence per broken rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.errors import InputError
from osr.outputs import IntArray
from osr.splits.leaks import cut_group
from osr.splits.names import is_verdict

PARTS = ("train", "val", "test")
HELD_OUT = "held_out"  # where the classes of the main data set come from

Roles = Mapping[str, Sequence[int]]  # class ids of known, background and unknown
Rows = Mapping[str, IntArray]  # of each part


def check_classes(roles: Roles, *, names: Sequence[str], sources: Sequence[str] | None) -> None:
    """Each class is known, background or unknown, or none of these; those of other data sets are unknown.

    Raises:
        InputError: a class id that does not exist, a class in two places, a known class called unknown, or a
            source too few or too many.
    """
    seen = dict[int, str]()
    for role, numbers in roles.items():
        for number in numbers:
            if not 0 <= number < len(names):
                raise InputError(f"split.{role}: class id {number} must lie in 0..{len(names) - 1}.")
            if number in seen:
                same = seen[number] == role
                where = f"twice in {role}" if same else f"in {seen[number]} and in {role}"
                raise InputError(f"split: class {names[number]!r} stands {where}; one place per class.")
            seen[number] = role
    for number in roles["known"]:
        if is_verdict(names[number]):
            raise InputError(
                f"split.known: class {names[number]!r} has the name of the verdict on images that no "
                "class fits; rename the class, or leave it out of the known ones."
            )
    if sources is None:
        return
    if len(sources) != len(names):
        raise InputError(f"split: {len(names)} classes need as many sources.")
    for number, source in enumerate(sources):
        if source != HELD_OUT and seen.get(number) != "unknown":
            raise InputError(f"split: class {names[number]!r} of {source} must be unknown.")


def check_rows(
    rows: Rows, targets: IntArray, *, num_classes: int, others: Mapping[str, NDArray[Any] | None]
) -> None:
    """Each image stands in one part at most, and has a class; `others` hold something of every image.

    Raises:
        InputError: an id or a row that does not exist, a row in two parts, or rows that are not sorted.
    """
    last = num_classes - 1
    if len(targets) and not 0 <= targets.min() <= targets.max() <= last:
        raise InputError(f"split: class ids of images must lie in 0..{last}.")
    unique, counts = np.unique(np.concatenate(list(rows.values())), return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"split: image {unique[counts > 1][0]} stands twice in train, val and test; once per image."
        )
    if len(unique) and not 0 <= unique[0] <= unique[-1] < len(targets):
        raise InputError(f"split: rows must lie in 0..{len(targets) - 1}.")
    for part, numbers in rows.items():
        if (np.diff(numbers) < 0).any():
            raise InputError(f"split: the rows of {part} must be sorted.")
    for name, array in others.items():
        if array is not None and array.shape != targets.shape:
            raise InputError(
                f"split: {name} must have shape {targets.shape}, one per image, not {array.shape}."
            )


def check_parts(rows: Rows, targets: IntArray, *, roles: Roles, names: Sequence[str]) -> None:
    """Known classes stand in every part, background in train and val, unknowns in test alone.

    Raises:
        InputError: a class where it must not be, or a known class without images in a part.
    """
    known = roles["known"]
    shown = {*known, *roles["background"]}
    allowed = {"train": shown, "val": shown, "test": {*known, *roles["unknown"]}}
    for part, classes in allowed.items():
        present = set(np.unique(targets[rows[part]]).tolist())
        for number in sorted(present - classes):
            raise InputError(f"split: class {names[number]!r} must not appear in {part}.")
        for number in known:
            if number not in present:
                raise InputError(f"split: known class {names[number]!r} has no image in {part}.")


def check_groups(groups: IntArray | None, part_codes: IntArray) -> None:
    """A group of images stands in one part.

    Raises:
        InputError: a group is cut in two.
    """
    cut = None if groups is None else cut_group(groups, part_codes)
    if cut is not None:
        group, first, second = cut
        raise InputError(
            f"split: group {group} stands in {PARTS[first]} and in {PARTS[second]}; one part per group."
        )
