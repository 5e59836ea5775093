"""Numbers with the ends of their intervals, as the section `evaluate` asks for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.metrics.bootstrap import bootstrap_intervals, known_risk_intervals
from osr.metrics.groups import Groups
from osr.metrics.metric_ends import CLASSES, SHARE
from osr.metrics.settings import EvaluateSettings
from osr.metrics.statistics import Interval, effective_size, share_ends
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
    return _with_ends(intervals)


def known_risks_with_ends(
    known: ArrayLike, correct: ArrayLike, settings: EvaluateSettings, *, groups: Groups | None = None
) -> dict[str, float]:
    """Risk and coverage of known images alone, each with NAME_low and NAME_high."""
    return _with_ends(
        known_risk_intervals(
            known,
            correct,
            replicates=settings.bootstrap_replicates,
            confidence=settings.confidence,
            seed=settings.seed,
            num_threads=2,
            groups=groups,
        )
    )


def _with_ends(intervals: Mapping[str, Interval]) -> dict[str, float]:
    found = {name: interval.estimate for name, interval in intervals.items()}
    for name, interval in intervals.items():
        found |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found


def share_with_ends(
    hits: NDArray[np.bool_], *, confidence: float, groups: IntArray | None = None
) -> tuple[float, float, float]:
    """A share of images and the ends of its beta interval, of whole groups where there are any.

    The variance over groups is the linearised one of a ratio, which replicates of whole groups come to.

    Args:
        hits: (N,) of at least one image.
        confidence: in 0..1 without the ends.
        groups: (N,), the group of each image; None where each stands for itself.
    """
    value, size = float(hits.mean()), np.float64(len(hits))
    if groups is not None:
        codes = np.unique(groups, return_inverse=True)[1]
        sizes, sums = np.bincount(codes), np.bincount(codes, weights=hits - value)
        units = float(sizes.sum() ** 2 / (sizes**2).sum())
        variance = float((sums**2).sum()) / len(hits) ** 2
        size = np.float64(
            effective_size(value, variance, units=units, expected=SHARE.design_effect, images=len(hits))
        )
    low, high = share_ends(value, size, confidence=confidence, shape=SHARE)
    return value, float(low), float(high)


def class_mean_with_ends(values: ArrayLike, *, confidence: float) -> tuple[float, float, float]:
    """The mean of one number in 0..1 per class, and the ends of its interval over classes.

    Classes are the units: what another class would give is as unsure as these classes differ, and of few
    classes little is known. A beta interval, as of a share of as many independent draws.
    """
    numbers = np.asarray(values, dtype=np.float64)
    mean, count = float(numbers.mean()), len(numbers)
    variance = float(numbers.var()) / count
    size = effective_size(mean, variance, units=count, expected=CLASSES.design_effect)
    low, high = share_ends(mean, size, confidence=confidence, shape=CLASSES)
    return mean, float(low), float(high)


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
