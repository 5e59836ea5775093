"""Headline metrics with the ends of their bootstrap intervals, as the section `evaluate` asks for."""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import ArrayLike

from osr.metrics.bootstrap import bootstrap_intervals
from osr.metrics.groups import Groups
from osr.metrics.settings import EvaluateSettings
from osr.outputs import IntArray


def metrics_with_ends(
    known: ArrayLike,
    correct: ArrayLike,
    unknown: ArrayLike,
    settings: EvaluateSettings,
    *,
    groups: Groups | None = None,
) -> dict[str, float]:
    """The headline metrics and `accuracy`, each with NAME_low and NAME_high; see `bootstrap_intervals`."""
    intervals = bootstrap_intervals(
        known,
        correct,
        unknown,
        replicates=settings.bootstrap_replicates,
        confidence=settings.confidence,
        seed=settings.seed,
        num_threads=2,
        groups=groups,
    )
    found = {name: interval.estimate for name, interval in intervals.items()}
    for name, interval in intervals.items():
        found |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found


def drawn_units(labels: IntArray, groups: Groups | None) -> dict[str, int]:
    """What the intervals are made from: how many known and unknown images, or groups of them, are drawn.

    Args:
        labels: (N,) of the test images.
        groups: of these; None where each stands for itself.
    """
    known = int((labels >= 0).sum())
    counts = (known, len(labels) - known) if groups is None else groups.counts
    return {"by_group": int(groups is not None), "known_units": counts[0], "unknown_units": counts[1]}


def by_metric(per_detector: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Turn detector -> metric into metric -> detector, the order of the metric names in MLflow."""
    names = next(iter(per_detector.values()))
    return {name: {key: metrics[name] for key, metrics in per_detector.items()} for name in names}
