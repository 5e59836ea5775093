"""Whether images are still those that a table of verdicts was made of: their scores must be those in it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.judgement import Scores
from osr.outputs import Outputs

logger = logging.getLogger("osr.discover")

_ALIKE = 0.1  # of the deviation of known images' scores; other machines and precisions differ by less


class JudgedAgain:
    """Compares scores of then and now.

    Args:
        classifier: one of whose detectors judged; which one no table says.
    """

    def __init__(self, classifier: OpenSetClassifier) -> None:
        self._classifier, self._total = classifier, 0
        self._other = {name: list[str]() for name in classifier.detectors}

    def add(self, names: Sequence[str], scores: Sequence[float], outputs: Outputs) -> None:
        """Look at some images.

        Args:
            names: of N images.
            scores: (N,) in the table.
            outputs: what the network says of these images now.
        """
        self._total += len(names)
        for detector, (fitted, _) in self._classifier.parts.detectors.items():
            now: Scores = fitted.score(outputs)
            alike = _ALIKE * float(np.std(self._classifier.scores[detector]))
            differ = np.flatnonzero(np.abs(now - np.array(scores)) > alike)
            self._other[detector] += [names[row] for row in differ.tolist()]

    def check(self, file: Path) -> None:
        """Tell of images that were changed.

        Raises:
            InputError: most of them were.
        """
        other = min(self._other.values(), key=len)
        if not other:
            return
        told = (
            f"{file} is of other images: {len(other):,} of {self._total:,} files have other scores now, such "
            f"as {other[0]}"
        )
        if 2 * len(other) > self._total:
            raise InputError(f"{told}. Judge them with `osr predict` first.")
        logger.warning("%s.", told)
