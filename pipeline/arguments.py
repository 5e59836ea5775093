"""How arguments of commands are read; what cannot be is told by argparse."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
from collections.abc import Callable
from pathlib import Path

LEAST_SHARE = 1e-9
_MAX_DIGITS, _MAX_SHOWN = 20, 40


def path(text: str) -> Path:
    """A path; no text is none, and not the present folder."""
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    return Path(text)


def source(text: str) -> str:
    """A path of images, a pattern of paths, or - for a list of them."""
    return str(path(text))


def origin(text: str) -> str:
    """A folder, a file, or the address of a server, as it stands."""
    path(text)
    return text


def exported_folder(text: str) -> Path:
    """A folder that `osr export` made; `pipeline.places` checks it, and those below."""
    return path(text)


def verdicts(text: str) -> Path:
    """A file that `osr predict` wrote."""
    return path(text)


def images_folder(text: str) -> Path:
    """A folder of images of known classes."""
    return path(text)


def new_file(text: str) -> Path:
    """A file to write."""
    return path(text)


def new_picture(text: str) -> Path:
    """A figure to draw."""
    return path(text)


def new_stem(text: str) -> Path:
    """Of several files to write, all but the endings."""
    return path(text)


def new_folder(text: str) -> Path:
    """A folder to make."""
    return path(text)


def growing_folder(text: str) -> Path:
    """A folder to make, or to put more into."""
    return path(text)


def code(text: str) -> str:
    """`module:Class`."""
    if re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", text):
        return text
    raise argparse.ArgumentTypeError(f"must be module:Class, not {_short(text)}")


def address(text: str) -> str:
    """A host's name or address."""
    if text and not text.isspace():
        return text
    raise argparse.ArgumentTypeError("must be a name or an address, not nothing")


def number(text: str) -> float:
    """A finite number."""
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"must be a number, not {_short(text)}")


def share(text: str) -> float:
    """A share, so far from both ends that a count of images can tell it from them."""
    with contextlib.suppress(ValueError):
        if LEAST_SHARE <= (value := float(text)) <= 1 - LEAST_SHARE:
            return value
        if 0 < value < 1:
            raise argparse.ArgumentTypeError(
                f"must lie in {LEAST_SHARE:g}..{1 - LEAST_SHARE:.9f}, not {_short(text)}"
            )
    raise argparse.ArgumentTypeError(f"must be above 0 and below 1, not {_short(text)}")


def acceptance(text: str) -> float:
    """A share of known images, which may be all of them."""
    if 0 < (value := number(text)) <= 1:
        return value
    raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, such as 0.95, not {_short(text)}")


def probability(text: str) -> float:
    """A number in 0..1, both ends included."""
    if 0 <= (value := number(text)) <= 1:
        return value
    raise argparse.ArgumentTypeError(f"must lie in 0..1, not {_short(text)}")


def part(text: str) -> tuple[int, int]:
    """One of several parts, from 1: `3/8` is the third of eight."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"must be a number out of a number, such as 3/8, not {text}")
    return int(found[1]), int(found[2])


def whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def read(text: str) -> int:
        if text.isdecimal() and len(text) <= _MAX_DIGITS and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be a whole number in {least}..{most}, not {_short(text)}")

    return read


def _short(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(text):,} characters)"
