"""Selective classification over everything that is wrong: risk among what is accepted, and its coverage.

Higher score = more unknown; accept when s <= theta. An accepted image is wrong where it is unknown, or known
and its class predicted wrong (Jaeger et al. 2023). Coverage is the share of all test images that is accepted,
selective risk the share of wrong ones among these, generalised risk the share of wrong accepted ones among
all. All of them depend on the share of unknown images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from osr.metrics.conformal import required_count
from osr.metrics.counting import dot, windows
from osr.metrics.thresholds import Acceptance

RISKS = ("aurc", "augrc", "risk_at_80_coverage", "risk_at_95_coverage", "coverage_at_5_risk")

Array = NDArray[Any]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """How many images each threshold accepts and how many of them are wrong; equal scores move together.

    Args:
        accepted: (G + 1,) int, images with s <= theta, known and unknown, rising from 0.
        wrong: (G + 1,) int, those of them that are wrong.
    """

    accepted: Array
    wrong: Array

    @classmethod
    def of(cls, counts: Acceptance) -> Self:
        """From the counts of the one sort."""
        accepted = counts.known + counts.unknown
        return cls(accepted, accepted - counts.correct)

    @property
    def num_images(self) -> int:
        """All test images."""
        return int(self.accepted[-1])

    @property
    def first_risk(self) -> float:
        """The selective risk of the smallest threshold that accepts an image at all."""
        row = int(np.searchsorted(self.accepted, self.accepted.dtype.type(1)))
        return int(self.wrong[row]) / int(self.accepted[row])

    def areas(self) -> tuple[float, float]:
        """AURC and AUGRC: trapezoids under selective and under generalised risk over coverage 0..1.

        Up to the coverage of the smallest threshold the selective risk is that of this threshold, and the
        generalised one rises from 0. Both are fd-shifts' definitions, ties included.
        """
        first, sums = self.first_risk, np.zeros(2)
        for rows in windows(len(self.accepted) - 1):
            accepted, wrong = (of[rows].astype(np.float64) for of in (self.accepted, self.wrong))
            risk = np.divide(wrong, accepted, out=np.full(len(wrong), first), where=accepted > 0)
            more = np.diff(accepted)
            sums += dot(risk[1:] + risk[:-1], more), dot(wrong[1:] + wrong[:-1], more)
        aurc, augrc = sums / (2 * self.num_images, 2 * self.num_images**2)
        return float(aurc), float(augrc)

    def risk_at_coverage(self, coverage: float) -> float:
        """Share of wrong images among those that the smallest theta accepts whose coverage is at least this.

        Args:
            coverage: above 0 and at most 1.
        """
        required = self.accepted.dtype.type(max(1, required_count(coverage, self.num_images)))
        row = int(np.searchsorted(self.accepted, required))
        return int(self.wrong[row]) / int(self.accepted[row])

    def coverage_at_risk(self, risk: float) -> float:
        """The largest coverage whose selective risk is at most this; 0 where only accepting nothing keeps it.

        Args:
            risk: in 0..1.
        """
        kept = self.wrong <= self.accepted * (risk * (1 + 1e-12))
        last = len(kept) - 1 - int(np.argmax(kept[::-1]))
        return int(self.accepted[last]) / self.num_images

    def curve(self) -> tuple[FloatArray, FloatArray]:
        """Coverage, rising from 0, and selective risk, (G + 1,) float64 each: the line whose area is AURC."""
        risk = np.full(len(self.wrong), self.first_risk)
        np.divide(self.wrong, self.accepted, out=risk, where=self.accepted > 0)
        return self.accepted / self.num_images, risk


def risk_metrics(counts: Acceptance) -> dict[str, float]:
    """The metrics of `RISKS`, each in 0..1; smaller is better but for the last.

    aurc: area under selective risk over coverage (Geifman et al. 2019).
    augrc: area under generalised risk over coverage (Traub et al. 2024), at most 1/2.
    risk_at_80_coverage, risk_at_95_coverage: selective risk where at least this share is accepted.
    coverage_at_5_risk: largest coverage with a selective risk of at most 5 %.
    """
    selection = Selection.of(counts)
    values = (
        *selection.areas(),
        selection.risk_at_coverage(0.8),
        selection.risk_at_coverage(0.95),
        selection.coverage_at_risk(0.05),
    )
    return dict(zip(RISKS, values, strict=True))
