"""What a file was made from, as digests; files of different runs are told apart by them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from osr.errors import InputError
from osr.settings.base import Section
from osr.stored.makers import maker

Kind = Literal[
    "weights",
    "outputs",
    "calibration",
    "detector",
    "thresholds",
    "validation scores",
    "test scores",
    "confusion",
    "class tables",
    "estimate",
    "judge",
    "stage",
    "classifier",
    "monitor",
    "training images",
    "training hashes",
]


def apart() -> str:
    """What to say of files that are not of one run."""
    return f"files of different runs do not go together; {maker().apart}"


class Origin(Section):
    """Digests (16 hex digits) of what a file was made from; None where it was not made from such a thing.

    Args:
        split: of the division of the images, `Split.digest`.
        weights: of the weights file.
        calibration: of the calibration.
        thresholds: of the thresholds, which name the digests of the detectors.
    """

    split: str | None = None
    weights: str | None = None
    calibration: str | None = None
    thresholds: str | None = None

    @field_validator("*")
    @classmethod
    def _digest(cls, value: str | None) -> str | None:
        return None if value is None else checked_digest(value)

    def only(self, *names: str) -> Origin:
        """The same without all other digests."""
        return Origin(**{name: getattr(self, name) for name in names})


def checked_digest(value: str) -> str:
    """The digest itself.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"[0-9a-f]{16}", value):
        raise ValueError(f"{value[:40]!r} is no digest of 16 hexadecimal digits")
    return value


def check_origin(file: Path, made_from: Origin, present: Origin, *, beside: Path) -> None:
    """Refuse a file that was made from something else than what is at hand.

    Args:
        file: for the error.
        made_from: what it says.
        present: the digests of what is at hand; None means any.
        beside: where that lies, for the error.

    Raises:
        InputError: a digest differs, or the file does not say it.
    """
    for name, digest in present:
        found = getattr(made_from, name)
        if digest is None or found == digest:
            continue
        said = f"was made from {name} {found}" if found else f"does not say from which {name} it was made"
        raise InputError(f"{file} {said}, but {beside} holds {name} {digest}: {apart()}")
