"""Bootstrap over the images of one run: how sure its numbers are.

Higher score = more unknown. K stands for known test images, U for unknown ones; a replicate draws n_K and n_U
of them with replacement, or whole groups of them. The scores are sorted once, and a replicate only recounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError
from osr.metrics.groups import Groups
from osr.metrics.metric_ends import ACCURACY, SHARE, Units, least_coverage, metric_ends, upper_estimates
from osr.metrics.open_set import HEADLINE, headline_metrics
from osr.metrics.resampling import resample
from osr.metrics.risk import RISKS, risk_metrics
from osr.metrics.statistics import Interval, effective_size, percentile_interval, share_ends
from osr.metrics.thresholds import Acceptance, count_accepted, count_known

FloatArray = NDArray[np.float64]

RESAMPLED = (*HEADLINE, *RISKS, ACCURACY)
# From one row to another: the ends hold those of the percentiles, and of a risk that is surely small, too.
JUMPING = ("coverage_at_5_risk",)


def bootstrap_intervals(
    known_scores: ArrayLike,
    known_correct: ArrayLike,
    unknown_scores: ArrayLike,
    *,
    replicates: int,
    confidence: float,
    seed: int,
    num_threads: int = 1,
    groups: Groups | None = None,
) -> dict[str, Interval]:
    """Intervals of one detector's metrics of `RESAMPLED`: beta intervals of an effective size.

    The size comes from the variance of the replicates (see `effective_size`), so that an interval has a width
    also where no replicate differs, at an AUROC of 1, say. That of `accuracy` is n_K where images are
    independent. Where 95 % of few images are all of them, the high end of an FPR is 1: they do not bound the
    threshold that the rate belongs to.

    Args:
        known_scores: (n_K,) real; higher = more unknown.
        known_correct: (n_K,) bool, whether the predicted known class is right.
        unknown_scores: (n_U,) real.
        replicates: how many resamples, at least 2; 1000 do for a 95 % interval.
        confidence: how often intervals hold the truth, in 0..1 without the ends.
        seed: of the draws, at least 0.
        num_threads: at least 1; changes the time, never the result.
        groups: of the images, which are then drawn group by group; None where they are independent.

    Raises:
        InputError: bad scores (see `count_accepted`), replicates, confidence, seed, num_threads or groups.
    """
    draws = bootstrap_replicates(
        known_scores,
        known_correct,
        unknown_scores,
        replicates=replicates,
        seed=seed,
        num_threads=num_threads,
        groups=groups,
    )
    accepted = count_accepted(known_scores, known_correct, unknown_scores)
    return _intervals(headline(accepted), draws, accepted, Units.of(accepted, groups), confidence)


def known_risk_intervals(
    known_scores: ArrayLike,
    known_correct: ArrayLike,
    *,
    replicates: int,
    confidence: float,
    seed: int,
    num_threads: int = 1,
    groups: Groups | None = None,
) -> dict[str, Interval]:
    """Intervals of the metrics of `RISKS` of known images alone: what is wrong is misclassified.

    Args and errors are those of `bootstrap_intervals`.
    """
    table = resample(
        known_scores,
        known_correct,
        np.empty(0),
        statistic=lambda accepted: list(risk_metrics(accepted).values()),
        replicates=replicates,
        seed=seed,
        num_threads=num_threads,
        groups=groups,
    )
    accepted = count_known(known_scores, known_correct)
    draws = dict(zip(RISKS, table.T, strict=True))
    return _intervals(risk_metrics(accepted), draws, accepted, Units.of(accepted, groups), confidence)


def _intervals(
    estimates: Mapping[str, float],
    draws: Mapping[str, FloatArray],
    accepted: Acceptance,
    units: Units,
    confidence: float,
) -> dict[str, Interval]:
    """The interval of each metric from its replicates."""
    upper = upper_estimates(accepted, units) if accepted.num_unknown else {}
    found = {}
    for name, estimate in estimates.items():
        spread = float(draws[name].std(ddof=1))
        ends = metric_ends(
            name, estimate, spread**2, units=units, confidence=confidence, upper_estimate=upper.get(name)
        )
        low, high = (float(end) for end in ends)
        if name in JUMPING:
            seen = percentile_interval(draws[name], estimate=estimate, confidence=confidence)
            least = least_coverage(accepted, units, risk=0.05, confidence=confidence)
            low, high = min(low, seen.low, least), max(high, seen.high)
        found[name] = Interval(estimate, low, high, spread, len(draws[name]))
    return found


def bootstrap_replicates(
    known_scores: ArrayLike,
    known_correct: ArrayLike,
    unknown_scores: ArrayLike,
    *,
    replicates: int,
    seed: int,
    num_threads: int = 1,
    groups: Groups | None = None,
) -> dict[str, FloatArray]:
    """The metrics of `RESAMPLED` of test sets drawn with replacement, (replicates,) float64 each.

    Stratified: n_K of the known and n_U of the unknown images per replicate, or as `Groups.draw` says. The
    scores are sorted once; a replicate only recounts how often each was drawn. The draws depend on seed, n_K,
    n_U and groups alone, so replicates of two detectors on the same images are paired: their difference has
    an interval too.

    Args and errors are those of `bootstrap_intervals`.
    """
    table = resample(
        known_scores,
        known_correct,
        unknown_scores,
        statistic=lambda accepted: list(headline(accepted).values()),
        replicates=replicates,
        seed=seed,
        num_threads=num_threads,
        groups=groups,
    )
    return dict(zip(RESAMPLED, table.T, strict=True))


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
    groups: Groups | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Ends of the interval of CCR at each FPR: a band around OSCR, point by point.

    The replicates are those of `bootstrap_intervals` of the same seed, the interval is that of a share.

    Args:
        known_scores: (n_K,) real; higher = more unknown.
        known_correct: (n_K,) bool, whether the predicted known class is right.
        unknown_scores: (n_U,) real.
        fpr: (P,) in 0..1; CCR is the largest with at most this share of U accepted.
        replicates: how many resamples, at least 2.
        confidence: how often the interval of a point holds the truth, in 0..1 without the ends.
        seed: of the draws, at least 0.
        num_threads: at least 1; changes the time, never the result.
        groups: of the images; None where they are independent.

    Returns:
        Two (P,) float64, low and high.

    Raises:
        InputError: as `bootstrap_intervals` does, or an fpr outside 0..1.
    """
    shares = np.asarray(fpr, dtype=np.float64)
    if shares.ndim != 1 or not ((shares >= 0) & (shares <= 1)).all():
        raise InputError("A band needs a vector of FPRs in 0..1.")
    table = resample(
        known_scores,
        known_correct,
        unknown_scores,
        statistic=partial(_ccr_at, shares),
        replicates=replicates,
        seed=seed,
        num_threads=num_threads,
        groups=groups,
    )
    accepted = count_accepted(known_scores, known_correct, unknown_scores)
    estimate, units = _ccr_at(shares, accepted), Units.of(accepted, groups)
    size = effective_size(
        estimate,
        table.var(axis=0, ddof=1),
        units=units.fewest,
        expected=SHARE.design_effect,
        images=units.images,
    )
    return share_ends(estimate, size, confidence=confidence, shape=SHARE)


def _ccr_at(fpr: FloatArray, accepted: Acceptance) -> FloatArray:
    """The largest CCR with at most these shares of U accepted."""
    allowed = np.floor(fpr * accepted.num_unknown * (1 + 1e-12))
    rows = np.searchsorted(accepted.unknown, allowed, side="right") - 1
    return np.asarray(accepted.correct[rows] / accepted.num_known)


def headline(accepted: Acceptance) -> dict[str, float]:
    """The metrics that are resampled, those of `RESAMPLED`: headline, risk and coverage, accuracy of K."""
    accuracy = int(accepted.correct[-1]) / accepted.num_known
    return {**headline_metrics(accepted), **risk_metrics(accepted), ACCURACY: accuracy}
