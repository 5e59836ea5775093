"""From a protocol's name and trial, or from explicit lists, to class ids."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

from osr.errors import InputError

FOLDER = Path(__file__).parent


def protocol_classes(
    protocol: str, dataset: str, trial: int, num_classes: int
) -> tuple[list[int], list[int]]:
    """Known class ids in label order, and unknown ones: all others.

    Raises:
        InputError: the protocol has no lists for the data set, or no such trial.
    """
    lists = json.loads((FOLDER / f"{protocol}.json").read_text(encoding="utf-8"))
    if dataset not in lists:
        names = ", ".join(name for name in lists if name != "about")
        raise InputError(
            f"split.protocol {protocol} has no class lists for data set {dataset!r}; it has: {names}."
        )
    trials = lists[dataset]
    if trial >= len(trials):
        raise InputError(
            f"split.trial is {trial}, but protocol {protocol} on {dataset} has trials 0..{len(trials) - 1}."
        )
    known = trials[trial]
    return known, [number for number in range(num_classes) if number not in known]


def resolve_classes(wanted: Sequence[int | str], class_names: Sequence[str], *, key: str) -> list[int]:
    """Class ids of names or ids; a text is first looked up as a name.

    Raises:
        InputError: no such class.
    """
    ids = []
    for entry in wanted:
        if str(entry) in class_names and isinstance(entry, str):
            ids.append(list(class_names).index(entry))
        elif isinstance(entry, int) and 0 <= entry < len(class_names):
            ids.append(entry)
        else:
            guesses = difflib.get_close_matches(str(entry), class_names, n=1)
            hint = f"did you mean {guesses[0]!r}?" if guesses else f"classes: {', '.join(class_names)}."
            raise InputError(f"{key}: the data set has no class {entry!r}; {hint}")
    return ids
