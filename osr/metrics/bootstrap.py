"""Bootstrap over the images of one run: how sure its numbers are.

Higher score = more unknown. K stands for known test images, U for unknown ones; a replicate draws n_K and n_U
of them with replacement. The scores are sorted once, and a replicate only recounts.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError
from osr.metrics.open_set import HEADLINE, headline_metrics
from osr.metrics.statistics import Interval, percentile_interval
from osr.metrics.thresholds import Acceptance, count_accepted

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

ACCURACY = "accuracy"


def bootstrap_intervals(
    known_scores: ArrayLike,
    known_correct: ArrayLike,
    unknown_scores: ArrayLike,
    *,
    replicates: int,
    confidence: float,
    seed: int,
    num_threads: int = 1,
) -> dict[str, Interval]:
    """Percentile intervals of one detector's headline metrics and of `accuracy`.

    Where every replicate agrees (an AUROC of 1, say) the interval has no width: the images cannot tell more.

    Args:
        known_scores: (n_K,) real; higher = more unknown.
        known_correct: (n_K,) bool, whether the predicted known class is right.
        unknown_scores: (n_U,) real.
        replicates: how many resamples, at least 2; 1000 do for a 95 % interval.
        confidence: share of replicates inside, in 0..1 without the ends.
        seed: of the draws, at least 0.
        num_threads: at least 1; changes the time, never the result.

    Raises:
        InputError: bad scores (see `count_accepted`), replicates, confidence, seed or num_threads.
    """
    draws = bootstrap_replicates(
        known_scores, known_correct, unknown_scores, replicates=replicates, seed=seed, num_threads=num_threads
    )
    estimates = headline(count_accepted(known_scores, known_correct, unknown_scores))
    return {
        name: percentile_interval(draws[name], estimate=estimates[name], confidence=confidence)
        for name in draws
    }


def bootstrap_replicates(
    known_scores: ArrayLike,
    known_correct: ArrayLike,
    unknown_scores: ArrayLike,
    *,
    replicates: int,
    seed: int,
    num_threads: int = 1,
) -> dict[str, FloatArray]:
    """The headline metrics and `accuracy` of test sets drawn with replacement, (replicates,) float64 each.

    Stratified: n_K of the known and n_U of the unknown images per replicate. The scores are sorted once;
    a replicate only recounts how often each was drawn. The draws depend on seed, n_K and n_U alone, so
    replicates of two detectors on the same images are paired: their difference has an interval too.

    Args and errors are those of `bootstrap_intervals`.
    """
    table = _replicate(
        known_scores,
        known_correct,
        unknown_scores,
        statistic=lambda accepted: list(headline(accepted).values()),
        replicates=replicates,
        seed=seed,
        num_threads=num_threads,
    )
    return dict(zip((*HEADLINE, ACCURACY), table.T, strict=True))


def oscr_band(
    known_scores: ArrayLike,
    known_correct: ArrayLike,
    unknown_scores: ArrayLike,
    *,
    fpr: ArrayLike,
    replicates: int,
    confidence: float,
    seed: int,
    num_threads: int = 1,
) -> tuple[FloatArray, FloatArray]:
    """Ends of the percentile interval of CCR at each FPR: a band around OSCR, point by point.

    The replicates are those of `bootstrap_intervals` of the same seed.

    Args:
        known_scores: (n_K,) real; higher = more unknown.
        known_correct: (n_K,) bool, whether the predicted known class is right.
        unknown_scores: (n_U,) real.
        fpr: (P,) in 0..1; CCR is the largest with at most this share of U accepted.
        replicates: how many resamples, at least 2.
        confidence: share of replicates inside at each point, in 0..1 without the ends.
        seed: of the draws, at least 0.
        num_threads: at least 1; changes the time, never the result.

    Returns:
        Two (P,) float64, low and high.

    Raises:
        InputError: as `bootstrap_intervals` does, or an fpr outside 0..1.
    """
    shares = np.asarray(fpr, dtype=np.float64)
    if shares.ndim != 1 or not ((shares >= 0) & (shares <= 1)).all():
        raise InputError("A band needs a vector of FPRs in 0..1.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, not {confidence}.")

    def rates(accepted: Acceptance) -> FloatArray:
        allowed = np.floor(shares * accepted.num_unknown * (1 + 1e-12))
        rows = np.searchsorted(accepted.unknown, allowed, side="right") - 1
        return np.asarray(accepted.correct[rows] / accepted.num_known)

    table = _replicate(
        known_scores,
        known_correct,
        unknown_scores,
        statistic=rates,
        replicates=replicates,
        seed=seed,
        num_threads=num_threads,
    )
    low, high = np.quantile(table, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def _replicate(
    known_scores: ArrayLike,
    known_correct: ArrayLike,
    unknown_scores: ArrayLike,
    *,
    statistic: Callable[[Acceptance], ArrayLike],
    replicates: int,
    seed: int,
    num_threads: int,
) -> FloatArray:
    """(replicates, P) float64: a statistic of P numbers of each resampled test set."""
    if replicates < 2 or seed < 0 or num_threads < 1:
        raise InputError(
            "A bootstrap needs at least 2 replicates, a seed of at least 0 and at least 1 thread, "
            f"not {replicates}, {seed} and {num_threads}."
        )
    thresholds = count_accepted(known_scores, known_correct, unknown_scores).thresholds
    unknown_group = np.searchsorted(thresholds, unknown_scores)
    # Known images of the upper half are the ones predicted right: one count gives both kinds.
    known_group = np.searchsorted(thresholds, known_scores) + len(thresholds) * np.asarray(known_correct)

    def replicate(child: np.random.SeedSequence) -> ArrayLike:
        known_draw, unknown_draw = draw(child, len(known_group), len(unknown_group))
        known = np.bincount(known_group[known_draw], minlength=2 * len(thresholds))
        wrong, right = known.reshape(2, -1)
        unknown = np.bincount(unknown_group[unknown_draw], minlength=len(thresholds))
        return statistic(Acceptance(thresholds, _rising(wrong + right), _rising(right), _rising(unknown)))

    children = np.random.SeedSequence(seed).spawn(replicates)
    with ThreadPoolExecutor(num_threads) as pool:
        return np.array(list(pool.map(replicate, children)))


def draw(seed: np.random.SeedSequence, num_known: int, num_unknown: int) -> tuple[Array, Array]:
    """Rows of the known (num_known,) and unknown (num_unknown,) images of one replicate, with replacement."""
    generator = np.random.default_rng(seed)
    return generator.integers(num_known, size=num_known), generator.integers(num_unknown, size=num_unknown)


def headline(accepted: Acceptance) -> dict[str, float]:
    """The metrics that are resampled: the headline metrics, and the accuracy of K."""
    accuracy = int(accepted.correct[-1]) / accepted.num_known
    return {**headline_metrics(accepted), ACCURACY: accuracy}


def _rising(counts: Array) -> Array:
    """Running totals of (G,) counts with a leading 0, (G + 1,)."""
    totals = np.zeros(len(counts) + 1, counts.dtype)
    np.cumsum(counts, out=totals[1:])
    return totals
