"""How sure a number is: intervals of shares and areas from bootstrap replicates, t-intervals over trials."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError

FloatArray = NDArray[np.float64]

PRIOR_ERRORS = 2.0  # errors that the expected design effect counts as much as


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


@dataclass(frozen=True)
class Shape:
    """What is known of a number in 0..1 before its replicates are seen.

    Args:
        continuity: what the ends of its interval count of an image beside those seen, in 0..0.5: 0 is
            Clopper and Pearson's interval, 0.5 that of Jeffreys' prior.
        design_effect: its variance by that of a share of as many images, above 0.
    """

    continuity: float = 0.25
    design_effect: float = 1.0


def share_ends(
    estimate: ArrayLike,
    effective_size: ArrayLike,
    *,
    confidence: float,
    shape: Shape,
    upper_estimate: ArrayLike | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Ends of the beta interval of numbers in 0..1, each as sure as a share of `effective_size` images.

    Clopper and Pearson's interval (1934) on an effective size (Korn and Graubard 1998), moved towards that of
    Jeffreys' prior (Brown, Cai and DasGupta 2001) as `shape` says. It stays in 0..1, holds the estimate and
    always has a width, also at 0 and 1, where replicates do not differ.

    Args:
        estimate: (...,) in 0..1.
        effective_size: (...,) above 0.
        confidence: in 0..1 without the ends.
        shape: how much the ends count of one more image.
        upper_estimate: (...,) at least `estimate`, from which the high end is made; `estimate` if not given.

    Returns:
        Two float64 arrays of the shape of `estimate`, low and high.

    Raises:
        InputError: a confidence outside 0..1.
    """
    from scipy.special import betaincinv

    check_confidence(confidence)
    tail = (1 - confidence) / 2
    value, size = np.asarray(estimate, dtype=np.float64), np.asarray(effective_size, dtype=np.float64)
    above = value if upper_estimate is None else np.asarray(upper_estimate, dtype=np.float64)

    def low_end(share: FloatArray) -> FloatArray:
        found = betaincinv(share * size + shape.continuity, (1 - share) * size + 1 - shape.continuity, tail)
        return np.where(share > 0, found, 0.0)

    return np.minimum(low_end(value), value), np.maximum(1 - low_end(1 - above), value)


def effective_size(
    estimate: ArrayLike, variance: ArrayLike, *, units: float, expected: float, images: int = 0
) -> FloatArray:
    """Of how many independent images a share would be as sure: the units by the design effect (Kish 1965).

    The design effect is the variance by that of a share of `units` images. With few errors replicates know
    little of it (with none, nothing), so it is averaged with the expected one, which counts as
    `PRIOR_ERRORS` errors. Errors are counted in units; of groups in images as far as these turn out to be
    independent.

    Args:
        estimate: (...,) in 0..1.
        variance: (...,) of its bootstrap replicates.
        units: how many images, or groups of images, were drawn; above 0.
        expected: the design effect before replicates are seen, above 0.
        images: how many stand in the groups, where units are groups.
    """
    value = np.asarray(estimate, dtype=np.float64)
    single = value * (1 - value)
    # Replicates of n units vary by (n - 1) / n of what new ones would.
    unbiased = np.asarray(variance, dtype=np.float64) * units / max(units - 1, 1)
    found = np.divide(unbiased * units, single, out=np.zeros_like(single), where=single > 0)
    independent = np.divide(single, unbiased, out=np.full_like(single, np.inf), where=unbiased > 0)
    errors = np.clip(independent, units, max(units, images)) * np.minimum(value, 1 - value)
    return np.asarray(units / ((errors * found + PRIOR_ERRORS * expected) / (errors + PRIOR_ERRORS)))


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
    check_confidence(confidence)
    if array.ndim != 1 or len(array) < 2:
        raise InputError(f"An interval needs a vector of at least 2 {name}, not one of shape {array.shape}.")
    if not np.isfinite(array).all():
        raise InputError(
            f"An interval needs finite {name}; there are {array[~np.isfinite(array)]} among them."
        )
    return array


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is not between 0 and 1.

    Raises:
        InputError: it is not.
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, not {confidence}.")
