"""How arguments of commands are read; what cannot be is told by argparse."""

from __future__ import annotations

import argparse
import contextlib
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


def whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def read(text: str) -> int:
        if text.isdecimal() and least <= int(text[:20]) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be a whole number in {least}..{most}, not {text}")

    return read
