"""What a `Split` refuses: one rule per function, one sentence per broken rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from osr.errors import InputError
from osr.leaks import cut_group

if TYPE_CHECKING:
    from osr.splits import Split

PARTS = ("train", "val", "test")
HELD_OUT = "held_out"  # where the classes of the main data set come from


def check_classes(split: Split) -> None:
    """Each class is known, background or unknown, or none of these; those of other data sets are unknown.

    Raises:
        InputError: a class id that does not exist, a class in two places, or a source too few or too many.
    """
    names, seen = split.class_names, dict[int, str]()
    for group in ("known", "background", "unknown"):
        for number in getattr(split, group):
            if not 0 <= number < len(names):
                raise InputError(f"split.{group}: class id {number} must lie in 0..{len(names) - 1}.")
            if number in seen:
                same = seen[number] == group
                where = f"twice in {group}" if same else f"in {seen[number]} and in {group}"
                raise InputError(f"split: class {names[number]!r} stands {where}; one place per class.")
            seen[number] = group
    if split.sources is None:
        return
    if len(split.sources) != len(names):
        raise InputError(f"split: {len(names)} classes need as many sources.")
    for number, source in enumerate(split.sources):
        if source != HELD_OUT and seen.get(number) != "unknown":
            raise InputError(f"split: class {names[number]!r} of {source} must be unknown.")


def check_rows(split: Split) -> None:
    """Each image stands in one part at most, and has a class; groups and hashes belong to all images.

    Raises:
        InputError: an id or a row that does not exist, a row in two parts, or rows that are not sorted.
    """
    targets, last = split.targets, len(split.class_names) - 1
    if len(targets) and not 0 <= targets.min() <= targets.max() <= last:
        raise InputError(f"split: class ids of images must lie in 0..{last}.")
    unique, counts = np.unique(np.concatenate([split.rows(part) for part in PARTS]), return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"split: image {unique[counts > 1][0]} stands twice in train, val and test; once per image."
        )
    if len(unique) and not 0 <= unique[0] <= unique[-1] < len(targets):
        raise InputError(f"split: rows must lie in 0..{len(targets) - 1}.")
    for part in PARTS:
        if (np.diff(split.rows(part)) < 0).any():
            raise InputError(f"split: the rows of {part} must be sorted.")
    for name in ("groups", "hashes"):
        array = getattr(split, name)
        if array is not None and array.shape != targets.shape:
            raise InputError(
                f"split: {name} must have shape {targets.shape}, one per image, not {array.shape}."
            )


def check_parts(split: Split) -> None:
    """Known classes stand in every part, background in train and val, unknowns in test alone.

    Raises:
        InputError: a class where it must not be, or a known class without images in a part.
    """
    shown = {*split.known, *split.background}
    allowed = {"train": shown, "val": shown, "test": {*split.known, *split.unknown}}
    for part, classes in allowed.items():
        present = set(np.unique(split.targets[split.rows(part)]).tolist())
        for number in sorted(present - classes):
            raise InputError(f"split: class {split.class_names[number]!r} must not appear in {part}.")
        for number in split.known:
            if number not in present:
                raise InputError(f"split: known class {split.class_names[number]!r} has no image in {part}.")


def check_groups(split: Split) -> None:
    """A group of images stands in one part.

    Raises:
        InputError: a group is cut in two.
    """
    cut = None if split.groups is None else cut_group(split.groups, split.part_codes)
    if cut is not None:
        group, first, second = cut
        raise InputError(
            f"split: group {group} stands in {PARTS[first]} and in {PARTS[second]}; one part per group."
        )
