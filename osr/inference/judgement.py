"""How an image is decided on, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from osr.inference.predictor import Verdict

Scores = NDArray[np.float64]


class Decision(NamedTuple):
    """How to judge; of the last three at most one is given.

    Args:
        detector: one of the classifier's; None means its default one.
        threshold: scores above are unknown; instead of the fitted one.
        accept: the threshold is made anew from the stored scores so that it accepts this share (0..1) of
            known images, by the rule of the fitted one.
        p_value: images whose p-value is at most this (0..1) are unknown; so are at most this share of known
            images.
    """

    detector: str | None = None
    threshold: float | None = None
    accept: float | None = None
    p_value: float | None = None


DEFAULT = Decision()  # the fitted threshold of the default detector


@dataclass(frozen=True)
class Judgement(Verdict):
    """A `Verdict` on N images, with what they are called and how unusual a known image would be.

    Args:
        names: N paths, or numbers among the inputs.
        p_values: (N,) float64 in 1 / (n + 1) .. 1, conformal among the n stored scores of validation knowns;
            small = unknown. See `osr.metrics.thresholds.conformal_p_values`.
        class_names: K names.
    """

    names: tuple[str, ...]
    p_values: Scores
    class_names: tuple[str, ...]

    def top(self, count: int) -> list[list[tuple[str, float]]]:
        """Of each image the `count` most probable known classes with their calibrated probabilities."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]
        return [
            [(self.class_names[index], float(row[index])) for index in best]
            for row, best in zip(self.probabilities, order, strict=True)
        ]

    def part(self, rows: slice) -> Judgement:
        """That of some of the images."""
        return Judgement(
            labels=self.labels[rows],
            predictions=self.predictions[rows],
            scores=self.scores[rows],
            probabilities=self.probabilities[rows],
            names=self.names[rows],
            p_values=self.p_values[rows],
            class_names=self.class_names,
        )
