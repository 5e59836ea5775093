"""How arguments of commands are read; what cannot be is told by argparse."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Callable
from pathlib import Path


def path(text: str) -> Path:
    """A path; no text is none, and not the present folder."""
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    return Path(text)


def number(text: str) -> float:
    """A number."""
    with contextlib.suppress(ValueError):
        if (value := float(text)) == value:
            return value
    raise argparse.ArgumentTypeError(f"must be a number, not {text}")


def share(text: str) -> float:
    """A share, without the ends."""
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < 1:
            return value
    raise argparse.ArgumentTypeError(f"must be above 0 and below 1, not {text}")


def part(text: str) -> tuple[int, int]:
    """One of several parts, from 1: `3/8` is the third of eight."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"must be a number out of a number, such as 3/8, not {text}")
    return int(found[1]), int(found[2])


def whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def read(text: str) -> int:
        if text.isdecimal() and least <= int(text[:20]) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be a whole number in {least}..{most}, not {text}")

    return read
