"""The interval of each metric from its estimate and the variance of its replicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.metrics.groups import Groups
from osr.metrics.open_set import fpr_at_tpr_known, fpr_at_tpr_unknown
from osr.metrics.statistics import Shape, effective_size, share_ends
from osr.metrics.thresholds import Acceptance

FloatArray = NDArray[np.float64]

ACCURACY = "accuracy"
# Chosen by simulation (python -m benchmarks.coverage). Areas are means over pairs, which move in small steps.
# An AUROC varies 0.5 to 1 times as much as a share of as many images (Hanley and McNeil 1982; Birnbaum and
# Klose 1957), a rate at a threshold that was itself estimated varies more than one.
# A mean over classes, each between all and nothing: with 0.5 the interval holds the truth as often as it says
# for 3 to 43 classes, however much they differ (tests/test_estimation.py).
CLASSES = Shape(design_effect=0.5)
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


@dataclass(frozen=True)
class Units:
    """What was drawn.

    Args:
        known: how many independent units K are: images, or groups of them (see `Groups.units`).
        unknown: the same of U.
        images: of K or of U, whichever are fewer, where units are groups of them; else 0.
    """

    known: float
    unknown: float
    images: int = 0

    @classmethod
    def of(cls, accepted: Acceptance, groups: Groups | None) -> Self:
        """Of a test set and its groups."""
        if groups is None:
            return cls(accepted.num_known, accepted.num_unknown)
        return cls(*groups.units, images=min(accepted.num_known, accepted.num_unknown))

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
    if name != ACCURACY or units.images:
        size = effective_size(
            estimate,
            variance,
            units=units.known if name == ACCURACY else units.fewest,
            expected=shape.design_effect,
            images=units.images,
        )
    return share_ends(estimate, size, confidence=confidence, shape=shape, upper_estimate=upper_estimate)


def upper_estimates(accepted: Acceptance, units: Units) -> dict[str, float]:
    """The FPRs at the threshold that a new image stays below with 95 %, not the images counted here.

    The 95 % that is asked of n units is that of n + 1, as in split conformal prediction (Vovk et al. 2005).
    """
    return {
        "fpr_at_95tpr_known": fpr_at_tpr_known(accepted, 0.95 * (1 + 1 / units.known)),
        "fpr_at_95tpr_unknown": fpr_at_tpr_unknown(accepted, 0.95 * (1 + 1 / units.unknown)),
    }
