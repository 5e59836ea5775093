"""Known images under a shift that leaves their class: who still knows them, and who takes them for unknown.

Higher score = more unknown; accept as known when s <= theta. Full-spectrum detection (Yang et al. 2023)
counts shifted knowns as knowns: a detector that rejects blur as it rejects unknown classes loses there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.metrics.class_tables import Theta
from osr.metrics.intervals import share_with_ends
from osr.metrics.open_set import headline_metrics
from osr.metrics.thresholds import count_accepted
from osr.outputs import IntArray, Outputs

Scores = NDArray[np.float64]


def shift_metrics(
    shifted: Outputs,
    scores: Mapping[str, Scores],
    thresholds: Mapping[str, Theta],
    unknown: Mapping[str, Scores],
    *,
    confidence: float,
    groups: IntArray | None = None,
) -> dict[str, Any]:
    """Accuracy, and by detector what is accepted and the AUROC against the unknown test images.

    Args:
        shifted: of N known images.
        scores: (N,) of them, by detector.
        thresholds: by detector.
        unknown: (n_U,) scores of the unknown test images as they are, by detector; n_U may be 0.
        confidence: of the intervals, in 0..1 without the ends.
        groups: (N,), the group of each image; None where each stands for itself.
    """
    found: dict[str, Any] = _with_ends("accuracy", shifted.correct, confidence, groups)
    by_detector: dict[str, dict[str, float]] = {}
    for name, score in scores.items():
        numbers = _with_ends("known_acceptance", score <= thresholds[name], confidence, groups)
        if len(unknown[name]):
            numbers["auroc"] = auroc(score, unknown[name])
        for metric, value in numbers.items():
            by_detector.setdefault(metric, {})[name] = value
    return found | by_detector


def auroc(known: Scores, unknown: Scores) -> float:
    """P(s_U > s_K) + P(s_U = s_K) / 2."""
    counts = count_accepted(known, np.full(len(known), True), unknown)
    return headline_metrics(counts)["auroc"]


def _with_ends(
    name: str, hits: NDArray[np.bool_], confidence: float, groups: IntArray | None
) -> dict[str, float]:
    ends = share_with_ends(hits, confidence=confidence, groups=groups)
    return {f"{name}{end}": value for end, value in zip(("", "_low", "_high"), ends, strict=True)}
