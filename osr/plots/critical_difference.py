"""Mean ranks on one line, with bars across the methods that the data cannot tell apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from osr.errors import InputError
from osr.plots.style import BLUE, INK, REFERENCE, VERMILLION, short

BAR_STEP, ROW_STEP = 0.5, 1.0  # heights in rows of text
FIRST_BAR = 0.45
MAX_TICKS = 10


def critical_difference(axes: Axes, ranks: Mapping[str, float], *, critical_difference: float) -> None:
    """Critical difference diagram (Demšar 2006): a bar joins methods whose mean ranks lie less than CD apart.

    Rank 1 is best and stands on the left. The ruler above the line has the length of the critical difference.
    The axes need about 0.16 inches of height per two methods, and 0.6 more.

    Args:
        axes: where to draw; its own scales and frame are hidden.
        ranks: method -> mean rank, 1..M, at least 2 methods.
        critical_difference: in ranks, above 0; from `multiple_comparisons.critical_difference`.

    Raises:
        InputError: fewer than 2 methods, a rank outside 1..M, or a critical difference that is not positive.
    """
    names = _checked_order(ranks, critical_difference)
    values = [ranks[name] for name in names]
    left, right = math.floor(values[0]), max(math.ceil(values[-1]), math.floor(values[0]) + 1)
    groups = indistinguishable(values, critical_difference)
    for depth, (first, last) in enumerate(groups):
        height = -FIRST_BAR - depth * BAR_STEP
        ends = [values[first] - 0.012 * (right - left), values[last] + 0.012 * (right - left)]
        axes.plot(
            ends, [height, height], color=BLUE, linewidth=2.8, solid_capstyle="butt", clip_on=False, zorder=3
        )
    top = -FIRST_BAR - len(groups) * BAR_STEP - 0.4
    num_left = (len(names) + 1) // 2
    for position, name in enumerate(names):
        on_left = position < num_left
        row = position if on_left else len(names) - 1 - position
        height, edge = top - row * ROW_STEP, left if on_left else right
        _leader(axes, name, values[position], height=height, edge=edge, on_left=on_left)
    bottom = top - num_left * ROW_STEP + 0.3
    _ruler(axes, left, right, critical_difference)
    axes.set(xlim=(left, max(right, left + critical_difference)), ylim=(bottom, 2.6))
    axes.set_axis_off()


def indistinguishable(values: Sequence[float], critical_difference: float) -> list[tuple[int, int]]:
    """First and last position of the longest runs of rising ranks that span less than the difference.

    Runs of one method are left out, and runs inside another.
    """
    runs: list[tuple[int, int]] = []
    for first, rank in enumerate(values):
        last = max(i for i, other in enumerate(values) if other - rank < critical_difference)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs


def _checked_order(ranks: Mapping[str, float], critical_difference: float) -> list[str]:
    """The methods, best first."""
    if len(ranks) < 2:
        raise InputError(f"A critical difference diagram needs at least 2 methods, not {len(ranks)}.")
    wrong = {name: rank for name, rank in ranks.items() if not 1 <= rank <= len(ranks)}
    if wrong:
        raise InputError(f"Mean ranks of {len(ranks)} methods lie in 1..{len(ranks)}, but there is {wrong}.")
    if not 0 < critical_difference < math.inf:
        raise InputError(f"The critical difference must be above 0 and finite, not {critical_difference}.")
    return sorted(ranks, key=lambda name: ranks[name])


def _leader(axes: Axes, name: str, rank: float, *, height: float, edge: float, on_left: bool) -> None:
    """A line from the rank down and out to the edge, with name and rank outside."""
    axes.plot([rank, rank, edge], [0, height, height], color=REFERENCE, linewidth=0.7, zorder=1)
    axes.plot([rank], [0], marker="o", markersize=3, color=VERMILLION, zorder=4, clip_on=False)
    axes.annotate(
        f"{short(name, longest=24)}  {rank:.2f}" if on_left else f"{rank:.2f}  {short(name, longest=24)}",
        (edge, height),
        xytext=(-3 if on_left else 3, 0),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="center",
        fontsize=7,
        annotation_clip=False,
    )


def _ruler(axes: Axes, left: int, right: int, length: float) -> None:
    """The scale of ranks, and above it the critical difference."""
    axes.plot([left, right], [0, 0], color=INK, linewidth=0.9, zorder=2, clip_on=False)
    every = next(step for step in (1, 2, 5, 10, right) if (right - left) / step <= MAX_TICKS)
    for rank in range(left, right + 1, every):
        axes.plot([rank, rank], [0, 0.22], color=INK, linewidth=0.9, clip_on=False)
        axes.text(rank, 0.38, str(rank), ha="center", va="bottom", fontsize=7)
    axes.plot([left, left + length], [1.5, 1.5], color=INK, linewidth=0.9, marker="|", markersize=5)
    axes.text(
        left + length / 2, 1.72, f"critical difference {length:.2f}", ha="center", va="bottom", fontsize=7
    )
