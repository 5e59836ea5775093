"""Every detector of a run on one page: a dot and its interval per headline metric, the best on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from osr.errors import InputError
from osr.plots.style import BLUE, REFERENCE, VERMILLION, short

Interval = tuple[float, float, float]  # value, and the ends of its interval

FRAME, ROW = 0.8, 0.16  # inches of height: labels, and one detector


def leaderboard(
    panels: Sequence[Axes], columns: Mapping[str, Mapping[str, Interval]], *, lower_is_better: Sequence[str]
) -> None:
    """One panel per metric, detectors in the order of the first metric in all of them.

    The best detector of a panel is a diamond on a dotted line. The figure needs FRAME + ROW x detectors
    inches of height.

    Args:
        panels: as many axes as metrics, side by side, with one y axis for all (`sharey`).
        columns: metric -> detector -> (value, low, high); the same detectors for each metric.
        lower_is_better: the metrics of which a small value is good.

    Raises:
        InputError: no detector, another number of panels, or a metric without the detectors of the first.
    """
    order = _checked_order(panels, columns, lower_is_better)
    rows = np.arange(len(order))
    for axes, (metric, intervals) in zip(panels, columns.items(), strict=True):
        value, low, high = np.array([intervals[name] for name in order]).T
        lower = metric in lower_is_better
        best = int(np.argmin(value) if lower else np.argmax(value))
        axes.axvline(value[best], color=REFERENCE, linewidth=0.8, linestyle=":", zorder=1)
        axes.hlines(rows, low, high, color=BLUE, linewidth=1.4, zorder=2)
        others = rows != best
        axes.plot(value[others], rows[others], "o", color=BLUE, markersize=3.2, zorder=3)
        axes.plot(value[best], rows[best], "D", color=VERMILLION, markersize=4, zorder=4)
        axes.set_xlabel(f"{metric}\n{'lower' if lower else 'higher'} is better")
        axes.locator_params(axis="x", nbins=5)
    panels[0].set_yticks(rows, [short(name, longest=24) for name in order])
    panels[0].set_ylim(len(order) - 0.4, -0.6)


def _checked_order(
    panels: Sequence[Axes], columns: Mapping[str, Mapping[str, Interval]], lower_is_better: Sequence[str]
) -> list[str]:
    """The detectors, best first on the first metric; equal ones by name."""
    metrics = list(columns)
    if not metrics or not columns[metrics[0]]:
        raise InputError("A leaderboard needs at least one metric and one detector.")
    if len(panels) != len(metrics):
        raise InputError(f"{len(metrics)} metrics need as many panels, not {len(panels)}.")
    first = columns[metrics[0]]
    for metric in metrics:
        differ = sorted(columns[metric].keys() ^ first.keys())
        if differ:
            raise InputError(f"{metric} and {metrics[0]} must have the same detectors, unlike {differ}.")
    sign = 1 if metrics[0] in lower_is_better else -1
    return sorted(first, key=lambda name: (sign * first[name][0], name))
