"""Bootstrap over the images of one run: how sure its numbers are.

Higher score = more unknown. K stands for known test images, U for unknown ones; a replicate draws n_K and n_U
of them with replacement, or whole groups of them. The scores are sorted once, and a replicate only recounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError
from osr.metrics.groups import Groups
from osr.metrics.open_set import HEADLINE, fpr_at_tpr_known, fpr_at_tpr_unknown, headline_metrics
from osr.metrics.resampling import resample
from osr.metrics.statistics import Interval, Shape, effective_size, share_ends
from osr.metrics.thresholds import Acceptance, count_accepted

FloatArray = NDArray[np.float64]

ACCURACY = "accuracy"
# Chosen by simulation (python -m benchmarks.coverage). Areas are means over pairs, which move in small steps.
# An AUROC varies 0.5 to 1 times as much as a share of as many images (Hanley and McNeil 1982; Birnbaum and
# Klose 1957), a rate at a threshold that was itself estimated varies more than one.
SHARE, AREA, RATE = Shape(), Shape(continuity=0.5), Shape(design_effect=1.5)
SHAPES = {
    "auroc": Shape(continuity=0.5, design_effect=0.75),
    "auoscr": AREA,
    "aupr_unknown": AREA,
    "aupr_known": AREA,
    "fpr_at_95tpr_known": RATE,
    "fpr_at_95tpr_unknown": RATE,
    ACCURACY: SHARE,
}


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
    """Intervals of one detector's headline metrics and of `accuracy`: beta intervals of an effective size.

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
    units = Units.of(accepted, groups)
    upper, found = _upper_estimates(accepted, units), {}
    for name, estimate in headline(accepted).items():
        spread = float(draws[name].std(ddof=1))
        low, high = metric_ends(
            name, estimate, spread**2, units=units, confidence=confidence, upper_estimate=upper.get(name)
        )
        found[name] = Interval(estimate, float(low), float(high), spread, replicates)
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
    """The headline metrics and `accuracy` of test sets drawn with replacement, (replicates,) float64 each.

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

    def rates(accepted: Acceptance) -> FloatArray:
        allowed = np.floor(shares * accepted.num_unknown * (1 + 1e-12))
        rows = np.searchsorted(accepted.unknown, allowed, side="right") - 1
        return np.asarray(accepted.correct[rows] / accepted.num_known)

    table = resample(
        known_scores,
        known_correct,
        unknown_scores,
        statistic=rates,
        replicates=replicates,
        seed=seed,
        num_threads=num_threads,
        groups=groups,
    )
    accepted = count_accepted(known_scores, known_correct, unknown_scores)
    estimate = rates(accepted)
    size = effective_size(
        estimate,
        table.var(axis=0, ddof=1),
        units=Units.of(accepted, groups).fewest,
        expected=SHARE.design_effect,
        confidence=None if groups is None else confidence,
    )
    return share_ends(estimate, size, confidence=confidence, shape=SHARE)


def headline(accepted: Acceptance) -> dict[str, float]:
    """The metrics that are resampled: the headline metrics, and the accuracy of K."""
    accuracy = int(accepted.correct[-1]) / accepted.num_known
    return {**headline_metrics(accepted), ACCURACY: accuracy}


@dataclass(frozen=True)
class Units:
    """What was drawn.

    Args:
        known: how many independent units K are: images, or groups of them (see `Groups.units`).
        unknown: the same of U.
        are_groups: which of the two.
    """

    known: float
    unknown: float
    are_groups: bool = False

    @classmethod
    def of(cls, accepted: Acceptance, groups: Groups | None) -> Self:
        """Of a test set and its groups."""
        if groups is None:
            return cls(accepted.num_known, accepted.num_unknown)
        return cls(*groups.units, are_groups=True)

    @property
    def fewest(self) -> float:
        """The smaller of both numbers."""
        return min(self.known, self.unknown)


def metric_ends(
    name: str,
    estimate: ArrayLike,
    variance: ArrayLike,
    *,
    units: Units,
    confidence: float,
    upper_estimate: ArrayLike | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Low and high end of the interval of one metric, of one test set or of many (...,).

    Args:
        name: of the metric.
        estimate: (...,) in 0..1, of all images.
        variance: (...,) of its replicates.
        units: what the replicates drew.
        confidence: in 0..1 without the ends.
        upper_estimate: as `share_ends` takes it.
    """
    shape = SHAPES[name]
    size: ArrayLike = units.known
    if name != ACCURACY or units.are_groups:
        size = effective_size(
            estimate,
            variance,
            units=units.known if name == ACCURACY else units.fewest,
            expected=shape.design_effect,
            confidence=confidence if units.are_groups else None,
        )
    return share_ends(estimate, size, confidence=confidence, shape=shape, upper_estimate=upper_estimate)


def _upper_estimates(accepted: Acceptance, units: Units) -> dict[str, float]:
    """The FPRs at the threshold that a new image stays below with 95 %, not the images counted here.

    The 95 % that is asked of n units is that of n + 1, as in split conformal prediction (Vovk et al. 2005).
    """
    return {
        "fpr_at_95tpr_known": fpr_at_tpr_known(accepted, 0.95 * (1 + 1 / units.known)),
        "fpr_at_95tpr_unknown": fpr_at_tpr_unknown(accepted, 0.95 * (1 + 1 / units.unknown)),
    }
