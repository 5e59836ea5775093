"""One line per class: bars of shares, and the scores of each class beside the threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from numpy.typing import NDArray

from osr.errors import InputError
from osr.plots.style import BLUE, INK, KNOWN_COLOUR, ORANGE, SKY, UNKNOWN_COLOUR, legend_below, short

Array = NDArray[Any]

COLOURS = (BLUE, ORANGE, SKY)
MAX_CLASSES = 60  # in one figure
BINS = 60
OVERLAP = 0.9  # height of a class's peak in lines
SCORE_BULK = (0.005, 0.995)  # quantiles that the axis of scores covers


def lines_height(count: float) -> float:
    """Inches that a figure of so many classes needs."""
    return 1.0 + 0.17 * max(count, 3)


def class_bars(
    axes: Axes,
    shares: Mapping[str, Array],
    *,
    names: Sequence[str],
    xlabel: str = "share of images",
) -> None:
    """One group of horizontal bars per class, the first class on top; a share that is NaN has no bar.

    Args:
        axes: where to draw.
        shares: quantity -> (n,) in 0..1 or NaN, at most three quantities.
        names: of the n classes, at most 60.
        xlabel: what the quantities are.

    Raises:
        InputError: no class or too many, no quantity or too many, or one of another length or range.
    """
    _check_names(names)
    if not 1 <= len(shares) <= len(COLOURS):
        raise InputError(f"Bars show 1 to {len(COLOURS)} quantities, not {len(shares)}.")
    places, thickness = np.arange(len(names)), 0.8 / len(shares)
    handles: list[Artist] = []
    for position, (quantity, values) in enumerate(shares.items()):
        values = np.asarray(values, dtype=np.float64)
        if values.shape != places.shape or (values < 0).any() or (values > 1).any():
            raise InputError(f"{quantity} must be {len(names)} shares in 0..1, one per class.")
        offset = (position - (len(shares) - 1) / 2) * thickness
        colour = COLOURS[position]
        axes.barh(places + offset, np.nan_to_num(values), thickness, color=colour, linewidth=0)
        handles += axes.plot([], [], color=colour, linewidth=4, label=quantity)
    axes.set(xlim=(0, 1), xlabel=xlabel)
    _name_lines(axes, names)
    axes.grid(visible=False, axis="y")
    legend_below(axes, handles)


def class_scores(
    axes: Axes,
    scores: Sequence[Array],
    *,
    names: Sequence[str],
    num_known: int,
    threshold: float,
    detector: str,
) -> None:
    """The density of each class's scores on a line of its own, known classes first, with the threshold.

    Each class is drawn to its own height. The axis covers the middle 99 % of each group; what lies outside
    is counted in its first or last bin.

    Args:
        axes: where to draw.
        scores: one vector per class, none empty; higher = more unknown.
        names: of the classes, at most 60, known ones first.
        num_known: how many of them are known.
        threshold: images with a score up to here are accepted as known.
        detector: for the x label.

    Raises:
        InputError: no class or too many, lengths disagree, a class without scores, or a NaN.
    """
    _check_names(names)
    if len(scores) != len(names):
        raise InputError(f"{len(names)} classes need as many vectors of scores, not {len(scores)}.")
    vectors = [np.asarray(values, dtype=np.float64) for values in scores]
    if any(not len(values) or np.isnan(values).any() for values in vectors):
        raise InputError("Each class needs at least one score, and none may be NaN.")
    edges = _score_edges([vectors[:num_known], vectors[num_known:]], threshold)
    for line, values in enumerate(vectors):
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        colour = KNOWN_COLOUR if line < num_known else UNKNOWN_COLOUR
        heights = line + 0.45 - OVERLAP * counts / counts.max()
        axes.stairs(heights, edges, baseline=line + 0.45, fill=True, color=colour, alpha=0.75, linewidth=0)
    handles: list[Artist] = [
        axes.plot([], [], color=colour, linewidth=4, label=group)[0]
        for group, colour in (("known", KNOWN_COLOUR), ("unknown", UNKNOWN_COLOUR))
        if group == "known" or len(vectors) > num_known
    ]
    if np.isfinite(threshold):
        label = f"threshold {threshold:.4g}: accepted up to here".replace("-", "−")
        handles.append(axes.axvline(threshold, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), label=label))
    axes.set(xlim=(edges[0], edges[-1]), xlabel=f"{detector} score (higher = more unknown)")
    _name_lines(axes, names)
    legend_below(axes, handles)


def _score_edges(groups: Sequence[Sequence[Array]], threshold: float) -> Array:
    """Equal bins over the bulk of both groups, the threshold among them."""
    ends = [threshold] if np.isfinite(threshold) else []
    for group in groups:
        together = np.concatenate([*group, np.empty(0)])
        together = together[np.isfinite(together)]
        ends += np.quantile(together, SCORE_BULK).tolist() if len(together) else []
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    margin = 0.03 * (high - low) or max(0.5, 0.05 * abs(high))
    return np.linspace(low - margin, high + margin, BINS + 1)


def _name_lines(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [short(str(name)) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _check_names(names: Sequence[str]) -> None:
    if not 1 <= len(names) <= MAX_CLASSES:
        raise InputError(f"A figure by class shows 1 to {MAX_CLASSES} classes, not {len(names)}.")
