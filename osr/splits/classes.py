"""From the section `split` to class ids: published lists by name, numbers of classes, or explicit lists."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np

from osr.errors import InputError
from osr.splits.names import as_number
from osr.splits.settings import SplitSettings

FOLDER = Path(__file__).with_name("protocols")
OWN_CLASSES = (
    "For classes of your own, split.protocol is explicit (your lists split.known and split.unknown; both [] "
    "train on all classes), first_k or random (split.num_known and split.num_unknown of them)."
)


@dataclass(frozen=True)
class Classes:
    """Class ids: known ones in label order, background and unknown ones."""

    known: tuple[int, ...]
    background: tuple[int, ...]
    unknown: tuple[int, ...]


def choose_classes(
    settings: SplitSettings, dataset: str, class_names: Sequence[str], *, has_other_unknowns: bool = False
) -> Classes:
    """The classes that `settings` ask for.

    Args:
        settings: the section `split`.
        dataset: name of the data set, whose published lists count unless `lists_of` names another.
        class_names: the name of each class id.
        has_other_unknowns: whether other data sets are tested, too, so that no class need be unknown.

    Raises:
        InputError: no such class, protocol, trial or number of classes. Overlaps are refused by `Split`.
    """
    background = resolve_classes(settings.background, class_names, key="split.background")
    if settings.protocol == "explicit":
        return Classes(*_listed(settings, class_names, background))
    if settings.protocol in ("first_k", "random"):
        known, unknown = _counted(settings, class_names, background, has_other_unknowns)
        return Classes(tuple(known), tuple(background), tuple(unknown))
    lists_of = dataset if settings.lists_of == "auto" else settings.lists_of
    known, unknown = protocol_classes(settings.protocol, lists_of, settings.trial, len(class_names))
    remaining = tuple(number for number in unknown if number not in background)
    if not (remaining or has_other_unknowns):
        raise InputError("split: no unknown class is left to test; take fewer known or background classes.")
    return Classes(tuple(known), tuple(background), remaining)


def protocol_classes(
    protocol: str, dataset: str, trial: int, num_classes: int
) -> tuple[list[int], list[int]]:
    """Known class ids in label order, and unknown ones: as published, or else all others.

    Raises:
        InputError: the protocol has no lists for the data set, no such trial, or ids outside the data set.
    """
    lists = json.loads((FOLDER / f"{protocol}.json").read_text(encoding="utf-8"))
    if dataset not in lists or dataset == "about":
        names = ", ".join(name for name in lists if name != "about")
        raise InputError(
            f"split.protocol {protocol} has no class lists for data set {dataset!r}; it has: {names}. "
            f"{OWN_CLASSES} Another set with these classes takes the lists by split.lists_of."
        )
    trials = lists[dataset]
    if trial >= len(trials):
        raise InputError(
            f"split.trial is {trial}, but protocol {protocol} on {dataset} has trials 0..{len(trials) - 1}."
        )
    chosen = trials[trial]
    known = chosen["known"] if isinstance(chosen, dict) else chosen
    unknown = (
        chosen["unknown"]
        if isinstance(chosen, dict)
        else [number for number in range(num_classes) if number not in known]
    )
    if max(*known, *unknown) >= num_classes:
        raise InputError(
            f"split.protocol {protocol} names class {max(*known, *unknown)} of {dataset}, but the data "
            f"set has classes 0..{num_classes - 1}."
        )
    return known, unknown


def _listed(
    settings: SplitSettings, class_names: Sequence[str], background: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """Known, background and unknown classes of explicit lists; no known one means all others."""
    known = resolve_classes(settings.known, class_names, key="split.known")
    unknown = resolve_classes(settings.unknown, class_names, key="split.unknown")
    if not known:
        known = [number for number in range(len(class_names)) if number not in (*unknown, *background)]
        if len(known) < 2:
            raise InputError(
                f"split.known is [], which means all other classes, but these are {len(known)}: at least 2 "
                "must be known."
            )
    return tuple(known), tuple(background), tuple(unknown)


def _counted(
    settings: SplitSettings, class_names: Sequence[str], background: Sequence[int], has_other_unknowns: bool
) -> tuple[list[int], list[int]]:
    """The first classes, or random ones in order of their ids; background classes are passed over.

    None is unknown where `num_unknown` is 0; `all` must leave one, unless other data sets are tested.
    """
    numbers = np.arange(len(class_names))
    if settings.protocol == "random":
        numbers = np.random.default_rng(settings.trial).permutation(numbers)
    free = [int(number) for number in numbers if number not in background]
    most = len(free) - settings.num_known
    fewest = int(settings.num_unknown == "all" and not has_other_unknowns)
    num_unknown = most if settings.num_unknown == "all" else settings.num_unknown
    if not fewest <= num_unknown <= most:
        hint = "; split.num_unknown: 0 trains on all of them" if fewest > num_unknown == 0 else ""
        raise InputError(
            f"split.num_known is {settings.num_known} and split.num_unknown is {settings.num_unknown}, but "
            f"{len(free)} classes are free{hint}."
        )
    known, unknown = free[: settings.num_known], free[settings.num_known : settings.num_known + num_unknown]
    return sorted(known), sorted(unknown)


def resolve_classes(wanted: Sequence[int | str], class_names: Sequence[str], *, key: str) -> list[int]:
    """Class ids of names or ids: a text is a name; a number an id, unless all names are numbers.

    Raises:
        InputError: no such class.
    """
    ids, values = [], [as_number(name) for name in class_names]
    numbers_are_names = None not in values
    for entry in wanted:
        if str(entry) in class_names and (isinstance(entry, str) or numbers_are_names):
            ids.append(list(class_names).index(str(entry)))
        elif isinstance(entry, int) and numbers_are_names and values.count(Decimal(entry)) == 1:
            ids.append(values.index(Decimal(entry)))  # 1 is the class '1.0'
        elif isinstance(entry, int) and not numbers_are_names and 0 <= entry < len(class_names):
            ids.append(entry)
        else:
            raise InputError(
                f"{key}: the data set has no class {entry!r}; {_instead(entry, wanted, class_names)}"
            )
    return ids


def _instead(entry: int | str, wanted: Sequence[int | str], class_names: Sequence[str]) -> str:
    """What may be meant: a class that is in the list already is not."""
    others = [name for name in class_names if name not in map(str, wanted)]
    if guesses := difflib.get_close_matches(str(entry), others, n=1):
        return f"did you mean {guesses[0]!r}?"
    if isinstance(entry, int) or not others:
        return f"classes: {', '.join(class_names)}."
    return f"classes that are not in the list: {', '.join(others)}."
