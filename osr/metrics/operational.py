"""Operational open-set accuracy (Cruz et al. 2024): at a threshold that a surrogate set of unknowns chose.

Higher score = more unknown; accept as known when s <= theta. Surrogates are images of no known class that
training did not see, such as held-out background images; none of them is a test image. Open-set accuracy here
weighs both sides the same, whatever their numbers: the mean of the share of K that is accepted and right and
the share of U that is rejected.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.metrics.thresholds import Acceptance, count_accepted


def open_set_accuracies(counts: Acceptance) -> NDArray[Any]:
    """(G + 1,) float64 in 0..1, the open-set accuracy at each threshold, from accepting none on."""
    rejected = (counts.num_unknown - counts.unknown) / counts.num_unknown
    return np.asarray((counts.correct / counts.num_known + rejected) / 2)


def operational_threshold(
    known_scores: ArrayLike, known_correct: ArrayLike, surrogate_scores: ArrayLike
) -> tuple[float, float]:
    """The smallest theta of the largest open-set accuracy on held-out images, and that accuracy.

    Args:
        known_scores: (N,) real, of validation images of known classes.
        known_correct: (N,) bool, whether the class of each is predicted right.
        surrogate_scores: (M,) real, of images that stand for unknown ones.

    Raises:
        InputError: what `count_accepted` refuses.
    """
    counts = count_accepted(known_scores, known_correct, surrogate_scores)
    found = open_set_accuracies(counts)
    row = int(np.argmax(np.round(found, 12)))  # equal ones differ in the last bits
    value = float(counts.thresholds[row - 1]) if row else math.nextafter(counts.thresholds[0], -math.inf)
    return float(value), float(found[row])


def open_set_accuracy(
    threshold: float, known_scores: ArrayLike, known_correct: ArrayLike, unknown_scores: ArrayLike
) -> float:
    """The open-set accuracy of test images at a threshold, in 0..1; OOSA at an `operational_threshold`."""
    right = np.asarray(known_correct) & (np.asarray(known_scores) <= threshold)
    return float((right.mean() + (np.asarray(unknown_scores) > threshold).mean()) / 2)
