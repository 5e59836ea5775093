"""Isotonic regression of being right on confidence, fitted to validation knowns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.calibration.probabilities import probability_quality


def fit_isotonic(
    logits: NDArray[Any], classes: NDArray[np.int64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Rising shares of right predictions, kept 1 / (N + 1) away from 0 and 1. Zadrozny and Elkan 2002.

    Args:
        logits: (N, K) finite, of validation images of known classes.
        classes: (N,) int64 in 0..K-1.

    Returns:
        Rising largest probabilities, and the share of right predictions at each, between 0 and 1.
    """
    from scipy.optimize import isotonic_regression  # stages that only apply a table need not wait for it

    confidence = probability_quality(logits, classes, 1.0)[0]
    knots, index, count = np.unique(confidence, return_inverse=True, return_counts=True)
    right = np.bincount(index, logits.argmax(axis=1) == classes)
    values = np.asarray(isotonic_regression(right / count, weights=count).x)
    margin = 1 / (len(classes) + 1)
    ends = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # of the stretches of equal values
    starts = np.append(0, ends[:-1] + 1)
    kept = np.unique(np.concatenate([starts, ends]))
    return tuple(knots[kept].tolist()), tuple(values[kept].clip(margin, 1 - margin).tolist())
