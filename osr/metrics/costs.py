"""The expected cost of an image: what mistakes and rejections cost, at a share of unknown images.

Higher score = more unknown; accept as known when s <= theta. K stands for known images, U for unknown ones.
At a prevalence p of unknown images theta costs (1 - p) E[cost | K] + p E[cost | U] per image (Chow 1970;
Elkan 2001).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError
from osr.metrics.groups import Groups
from osr.metrics.metric_ends import SHARE, Units
from osr.metrics.settings import CostsSettings, EvaluateSettings
from osr.metrics.statistics import effective_size, share_ends
from osr.metrics.thresholds import Acceptance, checked_scores, count_known

Array = NDArray[Any]
FloatArray = NDArray[np.float64]


def prevalence_of(settings: EvaluateSettings, num_known: int, num_unknown: int) -> float:
    """The share of unknown images to expect, in 0..1: that of the test images, or that of the settings."""
    asked = settings.prevalence
    return asked if isinstance(asked, float) else num_unknown / (num_known + num_unknown)


def cost_curve(counts: Acceptance, costs: CostsSettings, prevalence: float) -> FloatArray:
    """(G + 1,) float64, the expected cost of an image at each threshold, from accepting none on."""
    known = _known_cost(counts, costs)
    rejected = (counts.num_unknown - counts.unknown) / counts.num_unknown
    return np.asarray((1 - prevalence) * known + prevalence * _unknown_cost(rejected, costs))


def expected_cost(
    known_accepted: ArrayLike,
    known_correct: ArrayLike,
    unknown_accepted: ArrayLike,
    costs: CostsSettings,
    *,
    prevalence: float,
    confidence: float,
    groups: Groups | None = None,
) -> tuple[float, float, float]:
    """The expected cost of an image by what was accepted, and the ends of its interval.

    A beta interval as of a share of the largest cost. The variance is that of a mean over two strata, K and
    U, of whole groups where there are any.

    Args:
        known_accepted: (n_K,) bool, of the known test images.
        known_correct: (n_K,) bool, whether the class of each is predicted right.
        unknown_accepted: (n_U,) bool.
        costs: of one image.
        prevalence: share of unknown images to expect, in 0..1.
        confidence: in 0..1 without the ends.
        groups: of the test images; None where each stands for itself.
    """
    known, unknown = np.asarray(known_accepted), np.asarray(unknown_accepted)
    wrong = np.where(known_correct, 0.0, costs.misclassified_known)
    values = (
        np.where(known, wrong, costs.rejected_known) / costs.largest,
        np.where(unknown, costs.accepted_unknown, costs.rejected_unknown) / costs.largest,
    )
    shares = (1 - prevalence, prevalence)
    means = [float(part.mean()) for part in values]
    mean = min(1.0, sum(share * of for share, of in zip(shares, means, strict=True)))
    away = [share / len(part) * (part - of) for share, part, of in zip(shares, values, means, strict=True)]
    if groups is None:
        variance, units = sum(float((part**2).sum()) for part in away), Units(len(known), len(unknown))
    else:
        sums = np.bincount(np.concatenate(groups.codes), weights=np.concatenate(away))
        variance = float((sums**2).sum())
        units = Units(*groups.units, images=min(len(known), len(unknown)))
    # Of how many images a plain mean weighs as much as this one (Kish 1965).
    kish = 1 / (shares[0] ** 2 / units.known + shares[1] ** 2 / units.unknown)
    size = effective_size(mean, variance, units=kish, expected=SHARE.design_effect, images=units.images)
    low, high = share_ends(mean, size, confidence=confidence, shape=SHARE)
    return mean * costs.largest, float(low) * costs.largest, float(high) * costs.largest


@dataclass(frozen=True)
class CostThreshold:
    """The threshold of least expected cost among held-out knowns and assumed unknowns.

    Args:
        value: theta.
        cost: the expected cost of an image there, as far as the assumption holds.
    """

    value: float
    cost: float


def least_cost_threshold(
    scores: ArrayLike,
    correct: ArrayLike,
    costs: CostsSettings,
    *,
    prevalence: float,
    assumed_auroc: float,
) -> CostThreshold:
    """The smallest theta of least expected cost: knowns are counted, unknowns are assumed.

    No unknown image is seen. Of those to expect it is assumed that they are a share `prevalence`, and that
    they stand from the knowns as two normal densities of one width with an AUROC of `assumed_auroc` do (Green
    and Swets 1966): a theta that rejects the share x of the knowns rejects
    Phi(sqrt(2) Phi^-1(AUROC) + Phi^-1(x)) of them. That depends on the order of the scores alone.

    Args:
        scores: (N,) real, of validation images of known classes.
        correct: (N,) bool, whether the class of each is predicted right.
        costs: of one image.
        prevalence: the assumed share of unknown images, in 0..1.
        assumed_auroc: at least 0.5, below 1.

    Raises:
        InputError: no scores, a NaN among them, correctness of other images, or a number outside its range.
    """
    from scipy.special import ndtr, ndtri

    if not (0 <= prevalence <= 1 and 0.5 <= assumed_auroc < 1):
        raise InputError(
            "A threshold of least cost needs a prevalence in 0..1 and an assumed AUROC of at least 0.5 and "
            f"below 1, not {prevalence} and {assumed_auroc}."
        )
    counts = count_known(checked_scores(scores, name="scores of validation knowns"), correct)
    rejected = (counts.num_known - counts.known) / counts.num_known
    apart = math.sqrt(2) * float(ndtri(assumed_auroc))
    unknown = _unknown_cost(ndtr(apart + ndtri(rejected)), costs)  # at the ends of 0..1 they are infinities
    expected = (1 - prevalence) * _known_cost(counts, costs) + prevalence * unknown
    row = int(np.argmin(np.round(expected / costs.largest, 12)))  # equal costs differ in the last bits
    none = math.nextafter(float(counts.thresholds[0]), -math.inf)
    value = float(counts.thresholds[row - 1]) if row else none
    return CostThreshold(value, float(expected[row]))


def _known_cost(counts: Acceptance, costs: CostsSettings) -> FloatArray:
    """(G + 1,) expected cost of a known image at each threshold."""
    wrong, rejected = counts.known - counts.correct, counts.num_known - counts.known
    total = costs.misclassified_known * wrong + costs.rejected_known * rejected
    return np.asarray(total / counts.num_known)


def _unknown_cost(rejected: Array, costs: CostsSettings) -> FloatArray:
    """Expected cost of an unknown image where the shares (...,) of them are rejected."""
    return np.asarray(costs.rejected_unknown * rejected + costs.accepted_unknown * (1 - rejected))
