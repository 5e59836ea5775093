"""Which of two detectors or methods is better, and whether the data can tell.

A difference is first minus second. A p-value is two-sided: how often chance alone gives a difference as large
when there is none. On the same images, or groups of them: `paired_bootstrap` for every headline metric,
`delong_test` for AUROC.
Between runs, paired by trial: `paired_t_test`, `wilcoxon_test`. What a test cannot reject is not shown to be
equal. More than two at once: `osr.metrics.multiple_comparisons`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError
from osr.metrics.bootstrap import bootstrap_replicates, headline
from osr.metrics.delong import auroc_covariance
from osr.metrics.groups import Groups
from osr.metrics.statistics import check_confidence, percentile_interval, t_interval
from osr.metrics.thresholds import count_accepted

Array = NDArray[Any]
FloatArray = NDArray[np.float64]
Scored = tuple[
    ArrayLike, ArrayLike, ArrayLike
]  # known scores, whether their class is predicted right, unknown


@dataclass(frozen=True)
class Difference:
    """First minus second, with its interval and the p-value of "there is none".

    Args:
        estimate: of all images, or the mean over trials.
        low: lower end of the interval.
        high: upper end.
        p_value: in 0..1.
        n: how many replicates, images or trials it was made from.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    n: int


def paired_bootstrap(
    first: Scored,
    second: Scored,
    *,
    replicates: int,
    confidence: float,
    seed: int,
    num_threads: int = 1,
    groups: Groups | None = None,
) -> dict[str, Difference]:
    """Differences of two detectors on the same images, by headline metric and for `accuracy`.

    Args:
        first: known scores (n_K,), correct (n_K,) bool, unknown scores (n_U,); higher = more unknown.
        second: the same of the other detector, the same image in each place.
        replicates: at least 2; both detectors are judged on the same draws.
        confidence: of the percentile intervals, in 0..1 without the ends.
        seed: of the draws, at least 0.
        num_threads: at least 1; changes the time, never the result.
        groups: of the images, which are then drawn group by group; None where they are independent.

    Raises:
        InputError: different numbers of images, or what `bootstrap_replicates` refuses.
    """
    _check_same_images(first, second)
    drawn = [
        bootstrap_replicates(
            *scored, replicates=replicates, seed=seed, num_threads=num_threads, groups=groups
        )
        for scored in (first, second)
    ]
    estimates = [headline(count_accepted(*scored)) for scored in (first, second)]
    return {
        name: bootstrap_difference(
            drawn[0][name],
            drawn[1][name],
            estimate=estimates[0][name] - estimates[1][name],
            confidence=confidence,
        )
        for name in estimates[0]
    }


def bootstrap_difference(
    first: ArrayLike, second: ArrayLike, *, estimate: float, confidence: float
) -> Difference:
    """The difference of one metric from paired replicates (R,), drawn with one seed.

    The p-value is twice the smaller share of replicates on one side of 0, the sample itself counted in
    (Davison and Hinkley 1997): never below 2 / (R + 1).

    Raises:
        InputError: replicates of different number, fewer than 2, not finite, or a confidence outside 0..1.
    """
    values = _differences(first, second)
    interval = percentile_interval(values, estimate=estimate, confidence=confidence)
    fewer = min(np.count_nonzero(values <= 0), np.count_nonzero(values >= 0))
    p_value = min(1.0, 2 * (int(fewer) + 1) / (len(values) + 1))
    return Difference(estimate, interval.low, interval.high, p_value, len(values))


def delong_test(
    first: Scored, second: Scored, *, confidence: float, groups: Groups | None = None
) -> Difference:
    """Difference of two AUROCs on the same images with a normal interval (DeLong et al. 1988).

    With groups the variance is that between groups (Obuchowski 1997), and quantiles are Student's with one
    degree of freedom less than there are groups of known or of unknown images, whichever are fewer. Where all
    images agree (two perfect detectors, say) the variance is 0: the images cannot tell more, and the p-value
    is 1 without a difference and 0 with one. Arguments as in `paired_bootstrap`.

    Raises:
        InputError: different numbers of images, or what `auroc_covariance` refuses.
    """
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    _check_same_images(first, second)
    check_confidence(confidence)
    known, unknown = (np.stack([first[part], second[part]]) for part in (0, 2))
    areas, covariance = auroc_covariance(known, unknown, groups=groups)
    estimate = float(areas[0] - areas[1])
    contrast = np.array([1.0, -1.0])
    error = math.sqrt(max(0.0, float(contrast @ covariance @ contrast)))
    upper, tail = (1 + confidence) / 2, -abs(estimate) / error if error else 0.0
    if groups is None:
        quantile, chance = float(ndtri(upper)), float(ndtr(tail))
    else:
        freedom = min(groups.counts) - 1
        quantile, chance = float(stdtrit(freedom, upper)), float(stdtr(freedom, tail))
    p_value = 2 * chance if error else float(estimate == 0)
    half = quantile * error
    return Difference(estimate, estimate - half, estimate + half, p_value, known.shape[1] + unknown.shape[1])


def paired_t_test(first: ArrayLike, second: ArrayLike, *, confidence: float) -> Difference:
    """Mean difference over trials (Student 1908), which supposes that differences scatter normally.

    Trials that all differ by the same amount give p = 0, or 1 when that amount is 0.

    Args:
        first: (n,) finite, one value per trial, at least 2.
        second: (n,) of the same trials in the same order.
        confidence: of the interval, in 0..1 without the ends.

    Raises:
        InputError: lengths that disagree, fewer than 2 trials, or a value that is not finite.
    """
    from scipy.special import stdtr

    found = t_interval(_differences(first, second), confidence=confidence)
    if found.spread > 0:
        p_value = 2 * float(stdtr(found.n - 1, -abs(found.estimate) * math.sqrt(found.n) / found.spread))
    else:
        p_value = float(found.estimate == 0)
    return Difference(found.estimate, found.low, found.high, p_value, found.n)


def wilcoxon_test(first: ArrayLike, second: ArrayLike) -> float:
    """P-value of the signed-rank test over trials (Wilcoxon 1945), which supposes symmetry alone.

    Trials without a difference are left out. With n trials p is never below 2^(1 - n): five trials cannot
    reach 0.05. Arguments and errors as in `paired_t_test`.
    """
    from scipy.stats import wilcoxon

    values = _differences(first, second)
    return float(wilcoxon(values[values != 0]).pvalue) if values.any() else 1.0


def _differences(first: ArrayLike, second: ArrayLike) -> FloatArray:
    one, two = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if one.shape != two.shape or one.ndim != 1 or len(one) < 2:
        raise InputError(f"Pairs need two vectors of one length >= 2, not {one.shape} and {two.shape}.")
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise InputError("Pairs need finite values, but there is a NaN or an infinity among them.")
    return np.subtract(one, two)


def _check_same_images(first: Scored, second: Scored) -> None:
    sizes = [
        f"{np.size(known)} known and {np.size(unknown)} unknown" for known, _, unknown in (first, second)
    ]
    if sizes[0] != sizes[1]:
        raise InputError(f"Detectors are compared on the same images, but have {sizes[0]} and {sizes[1]}.")
