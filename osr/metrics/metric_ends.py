"""The interval of each metric from its estimate and the variance of its replicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.metrics.counting import ROWS
from osr.metrics.groups import Groups
from osr.metrics.open_set import fpr_at_tpr_known, fpr_at_tpr_unknown
from osr.metrics.risk import RISKS, Selection
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
    # Of all images, at coverages that are estimated, too (python -m benchmarks.risk_intervals).
    "aurc": Shape(continuity=0.0, design_effect=2.0),
    "augrc": AREA,
    "risk_at_80_coverage": Shape(design_effect=2.0),
    "risk_at_95_coverage": Shape(design_effect=2.0),
    "coverage_at_5_risk": RATE,
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

    def behind(self, name: str) -> float:
        """How many of them a metric is made from: K, both, or the fewer where it compares K with U."""
        if name == ACCURACY:
            return self.known
        return self.known + self.unknown if name in RISKS else self.fewest


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
            units=units.behind(name),
            expected=shape.design_effect,
            # That unknown images are wrong is no chance: it does not show whether images of a group are.
            images=0 if name in RISKS else units.images,
        )
    return share_ends(estimate, size, confidence=confidence, shape=shape, upper_estimate=upper_estimate)


def least_coverage(accepted: Acceptance, units: Units, *, risk: float, confidence: float) -> float:
    """The largest coverage whose selective risk is at most `risk` also at the high end of its interval.

    0 where there is none: few images that are all right say nothing of a small risk.
    """
    selection = Selection.of(accepted)
    weight = min(
        1.0, (units.known + units.unknown) / selection.num_images
    )  # of an image that stands in a group
    accepted_images, wrong_images = selection.accepted[1:], selection.wrong[1:]
    rows = np.flatnonzero(wrong_images <= risk * accepted_images)
    for part in np.array_split(rows[::-1], max(1, len(rows) // ROWS)):
        images, wrong = accepted_images[part], wrong_images[part]
        _, high = share_ends(wrong / images, weight * images, confidence=confidence, shape=SHARE)
        if (kept := np.flatnonzero(high <= risk)).size:
            return int(images[kept[0]]) / selection.num_images
    return 0.0


def upper_estimates(accepted: Acceptance, units: Units) -> dict[str, float]:
    """The FPRs at the threshold that a new image stays below with 95 %, not the images counted here.

    The 95 % that is asked of n units is that of n + 1, as in split conformal prediction (Vovk et al. 2005).
    """
    return {
        "fpr_at_95tpr_known": fpr_at_tpr_known(accepted, 0.95 * (1 + 1 / units.known)),
        "fpr_at_95tpr_unknown": fpr_at_tpr_unknown(accepted, 0.95 * (1 + 1 / units.unknown)),
    }
