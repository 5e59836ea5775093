"""Reliability: how often images of one confidence are right, and the calibration error made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.calibration.probabilities import checked_labels, probability_quality
from osr.errors import InputError

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

ECE_BINS = 15  # as Guo et al. 2017 and most papers since


@dataclass(frozen=True)
class Reliability:
    """Calibration per equal-width bin of the largest probability.

    A bin holds its upper edge and not its lower one, the first both, as in Guo et al. 2017 and Naeini et al.
    2015.

    Args:
        confidence: (B,) float64, mean largest probability in 0..1; NaN in an empty bin.
        accuracy: (B,) float64, share predicted right in 0..1; NaN in an empty bin.
        count: (B,) int64, number of images.
    """

    confidence: FloatArray
    accuracy: FloatArray
    count: NDArray[np.int64]

    @classmethod
    def of(cls, confidence: ArrayLike, correct: ArrayLike, *, bins: int = ECE_BINS) -> Reliability:
        """Table of (N,) largest probabilities in 0..1 and (N,) bool whether the prediction is right.

        Raises:
            InputError: no images, a confidence outside 0..1 or NaN, lengths that disagree, or no bins.
        """
        certainty, right = np.asarray(confidence, np.float64), np.asarray(correct)
        if bins < 1:
            raise InputError(f"A reliability table needs at least 1 bin, not {bins}.")
        if certainty.ndim != 1 or not len(certainty) or certainty.shape != right.shape:
            raise InputError(
                f"confidence and correct must be vectors (N,) alike, not {certainty.shape} and {right.shape}."
            )
        if not (certainty.min() >= 0 and certainty.max() <= 1):
            raise InputError(f"A confidence must lie in 0..1, not {certainty.min()} .. {certainty.max()}.")
        index = np.searchsorted(np.arange(1, bins) / bins, certainty)  # of the first edge that is not below
        count = np.bincount(index, minlength=bins)
        sums = (np.bincount(index, values, minlength=bins) for values in (certainty, right))
        means = [np.divide(total, count, out=np.full(bins, np.nan), where=count > 0) for total in sums]
        return cls(confidence=means[0], accuracy=means[1], count=count)

    def ece(self) -> float:
        """Expected calibration error: |accuracy - confidence| per bin, mean over images (Naeini 2015)."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float(gaps @ self.count / self.count.sum())


def reliability(logits: Array, labels: ArrayLike, *, temperature: float, bins: int = ECE_BINS) -> Reliability:
    """The table behind the ECE of `metrics.closed_set_metrics`; same arguments and errors."""
    classes = checked_labels(logits, labels)
    confidence, _, _ = probability_quality(logits, classes, temperature)
    return Reliability.of(confidence, logits.argmax(axis=1) == classes, bins=bins)
