"""Class names that are numbers, and names that may mean one class."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Set
from decimal import Decimal

VERDICT = "unknown"  # what is said of an image that no known class fits

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


def as_number(name: str) -> Decimal | None:
    """The number that a name writes in digits, with or without sign and decimals; None if it is none."""
    return Decimal(name) if _NUMBER.fullmatch(name) else None


def is_verdict(name: str) -> bool:
    """Whether a class is called as the verdict on images that no known class fits."""
    return name.strip().casefold() == VERDICT


def similar_names(names: Mapping[int, str], known: Set[int]) -> list[list[int]]:
    """Classes whose names are one number, or differ in case, spaces, hyphens and underscores alone.

    One of them is known at least.

    Args:
        names: of the classes, by their ids.
        known: ids of the known ones.
    """
    alike: dict[str | Decimal, list[int]] = {}
    for number, name in names.items():
        plain = re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold())
        value = as_number(name)
        alike.setdefault(plain if value is None else value, []).append(number)
    return [numbers for numbers in alike.values() if len(numbers) > 1 and not known.isdisjoint(numbers)]
