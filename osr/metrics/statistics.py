"""How sure a number is: percentile intervals of bootstrap replicates, t-intervals over trials."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A number with the range it may lie in.

    Args:
        estimate: the number itself: the metric of all images, or the mean over trials.
        low: lower end of the interval.
        high: upper end.
        spread: standard deviation (ddof 1) of the n values; over replicates it is the standard error.
        n: how many replicates or trials.
    """

    estimate: float
    low: float
    high: float
    spread: float
    n: int


def percentile_interval(replicates: ArrayLike, *, estimate: float, confidence: float) -> Interval:
    """The middle share `confidence` of the replicates (Efron 1979), around an estimate made from all images.

    Raises:
        InputError: fewer than 2 replicates, one that is not finite, or a confidence outside 0..1.
    """
    values = _checked_values(replicates, confidence, name="replicates")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high), float(values.std(ddof=1)), len(values))


def t_interval(values: ArrayLike, *, confidence: float) -> Interval:
    """Mean of independent trials with Student's interval, which supposes that trials scatter normally.

    The quantile is scipy's, imported here alone: scikit-learn brings scipy.

    Args:
        values: (n,) finite, one per trial, at least 2.
        confidence: in 0..1 without the ends.

    Raises:
        InputError: fewer than 2 values, one that is not finite, or a confidence outside 0..1.
    """
    from scipy.special import stdtrit

    trials = _checked_values(values, confidence, name="trials")
    mean, spread = float(trials.mean()), float(trials.std(ddof=1))
    half = float(stdtrit(len(trials) - 1, (1 + confidence) / 2)) * spread / math.sqrt(len(trials))
    return Interval(mean, mean - half, mean + half, spread, len(trials))


def _checked_values(values: ArrayLike, confidence: float, *, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, not {confidence}.")
    if array.ndim != 1 or len(array) < 2:
        raise InputError(f"An interval needs a vector of at least 2 {name}, not one of shape {array.shape}.")
    if not np.isfinite(array).all():
        raise InputError(
            f"An interval needs finite {name}; there are {array[~np.isfinite(array)]} among them."
        )
    return array
