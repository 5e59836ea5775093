"""Score densities of known and unknown test images; higher = more unknown, accepted when s <= threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from osr.errors import InputError
from osr.plots.style import INK, KNOWN_COLOUR, UNKNOWN_COLOUR, legend_below

Array = NDArray[Any]

MIN_BINS, MAX_BINS = 11, 61
TOWERING = 8.0  # one peak so many times the other: the axis turns to square roots


def score_histogram(
    axes: Axes, known_scores: Array, *, unknown_scores: Array | None, threshold: float, name: str
) -> None:
    """Densities of both groups, the threshold, and the share of each group on its right side.

    The axis covers the bulk of the scores. Those outside, infinite ones too, are counted in a note instead.

    Args:
        axes: where to draw.
        known_scores: (n,) scores of test knowns.
        unknown_scores: (m,) scores of test unknowns; None where none was tested.
        threshold: images with a score up to here are accepted as known.
        name: of the detector, for the x label.

    Raises:
        InputError: a group is empty, or a score or the threshold is NaN.
    """
    groups = [_check(known_scores, "known")]
    if unknown_scores is not None:
        groups.append(_check(unknown_scores, "unknown"))
    if np.isnan(threshold):
        raise InputError("The threshold is NaN, but must be a number.")
    edges = _edges(groups, threshold)
    accepted = [float((scores <= threshold).mean()) for scores in groups]
    labels = [f"known: {100 * accepted[0]:.1f} % accepted (n = {len(groups[0]):,})"]
    if unknown_scores is not None:
        labels.append(f"unknown: {100 * (1 - accepted[1]):.1f} % rejected (n = {len(groups[1]):,})")
    heights, patches = [], []
    colours = (KNOWN_COLOUR, UNKNOWN_COLOUR)[: len(groups)]
    for scores, colour, label in zip(groups, colours, labels, strict=True):
        heights.append(np.histogram(scores, edges)[0] / len(scores) / np.diff(edges))
        axes.stairs(heights[-1], edges, color=colour, linewidth=1.0)
        fill = axes.stairs(heights[-1], edges, color=colour, fill=True, alpha=0.35, linewidth=0, label=label)
        patches.append(fill)
    _scale(axes, heights)
    _mark(axes, threshold, edges)
    note = _outside(np.concatenate(groups), edges)
    axes.set_xlabel(f"{name} score (higher = more unknown){note}")
    legend_below(axes, patches, gap=6.2 if note else 4.6)


def _check(scores: Array, group: str) -> Array:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0:
        raise InputError(
            f"The {group} scores must be a list of at least one number, not of shape {scores.shape}."
        )
    if np.isnan(scores).any():
        raise InputError(f"The {group} scores hold {int(np.isnan(scores).sum())} NaN values.")
    return scores


def _edges(groups: list[Array], threshold: float) -> Array:
    """Equal bins over the bulk of each group: at least its middle 96 %, and all within 3 quartile ranges."""
    lows, highs = ([threshold], [threshold]) if np.isfinite(threshold) else ([], [])
    for scores in (group[np.isfinite(group)] for group in groups):
        if not len(scores):
            continue
        q02, q25, q75, q98 = np.quantile(scores, [0.02, 0.25, 0.75, 0.98])
        reach = 3 * (q75 - q25)
        lows.append(max(scores.min(), min(q02, q25 - reach)))
        highs.append(min(scores.max(), max(q98, q75 + reach)))
    low, high = float(min(lows, default=0)), float(max(highs, default=0))
    largest = max(abs(low), abs(high))
    if high - low < 1e-6 * largest or high == low:  # one value, up to rounding
        low, high = low - max(0.5, 0.05 * largest), high + max(0.5, 0.05 * largest)
    num_bins = int(np.clip(3 * np.cbrt(max(len(group) for group in groups)), MIN_BINS, MAX_BINS)) // 2 * 2 + 1
    return np.linspace(low, high, num_bins + 1)  # an odd number: a constant score stands in the middle of one


def _outside(scores: Array, edges: Array) -> str:
    """A second line for the x label when scores fall outside the bins."""
    outside = int(((scores < edges[0]) | (scores > edges[-1])).sum())
    return f"\n{outside:,} of {len(scores):,} scores lie outside the axis" if outside else ""


def _scale(axes: Axes, heights: list[Array]) -> None:
    """A linear density axis, or square roots when one peak would flatten the other group."""
    peaks = sorted(float(height.max()) for height in heights)
    label = "density"
    if peaks[0] > 0 and peaks[-1] > TOWERING * peaks[0]:
        axes.set_yscale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0)), np.square))
        label = "density (square-root scale)"
    axes.set(ylabel=label, ylim=(0, 1.05 * peaks[-1]))


def _mark(axes: Axes, threshold: float, edges: Array) -> None:
    """The threshold with its value above the axes, never over the data."""
    margin = 0.02 * (edges[-1] - edges[0])
    axes.set_xlim(edges[0] - margin, edges[-1] + margin)
    place = float(
        np.clip(threshold, edges[0], edges[-1])
    )  # an infinite one is written at the end, without a line
    if np.isfinite(threshold):
        axes.axvline(threshold, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), label="threshold")
    share = (place - edges[0]) / (edges[-1] - edges[0])
    side = "left" if share < 0.25 else "right" if share > 0.75 else "center"
    axes.annotate(
        f"◂ accept   θ = {threshold:.4g}   reject ▸".replace("-", "−"),
        xy=(place, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha=side,
        va="bottom",
        fontsize="small",
    )
