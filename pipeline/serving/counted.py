"""Which images a monitor has counted, so that none counts twice: by their names and scores."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from osr.data.hashes import content_hash
from osr.errors import InputError
from osr.inference.judgement import Scores

MOST = 100_000  # images that are remembered, the newest
_CHANCE = 0.01  # of the rows of a file, that another image of the name may have a score alike


class Counted:
    """The newest images that were counted.

    Args:
        text: of an earlier one, as `text` gives it.

    Raises:
        ValueError: it is no such text.
    """

    def __init__(self, text: str = "") -> None:
        held = base64.b64decode(text, validate=True)
        self._keys = dict.fromkeys(np.frombuffer(held, dtype="<u8").tolist())

    @property
    def text(self) -> str:
        """All of it, eight bytes an image."""
        return base64.b64encode(np.array(list(self._keys), dtype="<u8").tobytes()).decode()

    def add(self, file: Path, rows: Sequence[int], names: Sequence[str], scores: Scores) -> None:
        """Count the images of a file.

        An image that is judged again has its name, whatever the folder is called by, and its score but for
        rounding.

        Args:
            file: that holds the verdicts.
            rows: N numbers.
            names: N, of the images.
            scores: (N,).

        Raises:
            InputError: some were counted before, in this file or earlier.
        """
        again = list[int]()
        for place, (name, score) in enumerate(zip(names, scores.tolist(), strict=True)):
            key = content_hash(f"{Path(name).name}\0{score:.4e}".encode())
            if key in self._keys:
                again.append(place)
            self._keys[key] = None
            if len(self._keys) > MOST:
                del self._keys[next(iter(self._keys))]
        if len(again) > max(1, _CHANCE * len(rows)):
            first = again[0]
            told = f"{names[first]} was counted before, and so were {len(again) - 1:,} more"
            raise InputError(
                f"{file}, row {rows[first]}: {told} of its {len(rows):,} images: no image may count twice. "
                "Judge new images into a file of their own."
            )
