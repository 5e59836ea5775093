"""OSCR, ROC and precision-recall curves of several detectors; unknown is the positive class of a ROC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from osr.errors import InputError
from osr.plots.style import REFERENCE, legend_below, line_style

Array = NDArray[Any]
Curve = tuple[Array, Array]
Area = float | tuple[float, float, float]  # value, or value with the ends of its interval

MAX_POINTS = 4000
LEAST_COVERAGE = 0.05


def oscr(
    axes: Axes,
    curves: Mapping[str, Curve],
    *,
    log_x: bool,
    areas: Mapping[str, Area] | None = None,
    confidence: float = 0.95,
    band: tuple[str, Array, Array, Array] | None = None,
) -> None:
    """Correct classification rate of knowns against the false positive rate of unknowns.

    The right end of each curve is the closed-set accuracy, drawn as a dotted line.

    Args:
        axes: where to draw.
        curves: name -> (fpr, ccr), each (n,) in 0..1, fpr rising.
        log_x: draw log10 of fpr; the axis starts at the smallest positive fpr.
        areas: name -> AUOSCR, or (AUOSCR, low, high); the legend lists the best first.
        confidence: of the intervals in `areas` and of the band.
        band: name of a curve, and (n,) fpr rising, low and high of its ccr, for example from `oscr_band`.

    Raises:
        InputError: no curve, one that is not monotone in x or not finite, a name without its area or curve.
    """
    checked = _check(curves, areas)
    if band is not None and band[0] not in checked:
        raise InputError(f"The band is of {band[0]!r}, but the curves are {', '.join(checked)}.")
    left = _log_start(checked) if log_x else 0.0
    drawn = {name: _after(curve, left) if log_x else curve for name, curve in checked.items()}
    lines: list[Artist] = [*_draw(axes, drawn, areas, log_x=log_x)]
    accuracies = {name: float(y[-1]) for name, (_, y) in checked.items()}
    lines += _accuracy_lines(axes, accuracies)
    if band is not None:
        lines.append(_draw_band(axes, band, list(checked).index(band[0]), confidence))
    axes.set(xlabel="unknowns accepted (FPR)", ylabel="correct classification rate", ylim=(0, 1.02))
    if log_x:
        axes.set_xscale("log")
        axes.set_xlim(left, 1)
    else:
        axes.set_xlim(0, 1)
    legend_below(axes, lines, title=_legend_title("AUOSCR", areas, confidence))


def roc(
    axes: Axes,
    curves: Mapping[str, Curve],
    *,
    areas: Mapping[str, Area] | None = None,
    confidence: float = 0.95,
) -> None:
    """Share of unknowns rejected against share of knowns rejected, with the diagonal of chance.

    Args:
        axes: where to draw.
        curves: name -> (fpr, tpr), each (n,) in 0..1, fpr rising; unknown is positive.
        areas: name -> AUROC, or (AUROC, low, high); the legend lists the best first.
        confidence: of the intervals in `areas`.

    Raises:
        InputError: no curve, a curve that is not monotone in x or not finite, or a name without area.
    """
    lines = _draw(axes, _check(curves, areas), areas, log_x=False)
    lines += axes.plot(
        [0, 1], [0, 1], color=REFERENCE, linewidth=0.8, linestyle=":", zorder=1, label="chance"
    )
    axes.set(xlabel="knowns rejected (FPR)", ylabel="unknowns rejected (TPR)")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    legend_below(axes, lines, title=_legend_title("AUROC", areas, confidence))


def precision_recall(
    axes: Axes,
    curves: Mapping[str, Curve],
    *,
    prevalence: float,
    positive: Literal["unknown", "known"] = "unknown",
    areas: Mapping[str, Area] | None = None,
    confidence: float = 0.95,
) -> None:
    """Precision against recall as steps, the form that average precision sums.

    Args:
        axes: where to draw.
        curves: name -> (recall, precision), each (n,) in 0..1, recall rising or falling.
        prevalence: share of positives among the test images, the precision of chance.
        positive: which images count as positive.
        areas: name -> average precision, or (value, low, high); the legend lists the best first.
        confidence: of the intervals in `areas`.

    Raises:
        InputError: no curve, a curve that is not monotone in x or not finite, or a name without area.
    """
    lines = _draw(axes, _check(curves, areas), areas, log_x=False, drawstyle="steps-pre")
    chance = f"chance (prevalence {prevalence:.3f})"
    lines.append(
        axes.axhline(prevalence, color=REFERENCE, linewidth=0.8, linestyle=":", zorder=1, label=chance)
    )
    axes.set(xlabel=f"recall of {positive}s", ylabel=f"precision of {positive}s", xlim=(0, 1), ylim=(0, 1.02))
    legend_below(axes, lines, title=_legend_title("AUPR", areas, confidence))


def risk_coverage(
    axes: Axes,
    curves: Mapping[str, Curve],
    *,
    areas: Mapping[str, Area] | None = None,
    confidence: float = 0.95,
) -> None:
    """Share of wrong images among the accepted ones against the share of all images that is accepted.

    Where everything is accepted all curves of one network meet, at the dotted line. The risk axis covers
    coverages from `LEAST_COVERAGE` on: of the very first images the risk is any number.

    Args:
        axes: where to draw.
        curves: name -> (coverage, risk), each (n,) in 0..1, coverage rising.
        areas: name -> AURC, or (AURC, low, high); the legend lists the best, the smallest, first.
        confidence: of the intervals in `areas`.

    Raises:
        InputError: no curve, a curve that is not monotone in x or not finite, or a name without area.
    """
    checked = _check(curves, areas)
    lines = _draw(axes, checked, areas, log_x=False, smallest_first=True)
    everything = max(float(risk[-1]) for _, risk in checked.values())
    style: dict[str, Any] = {"color": REFERENCE, "linewidth": 0.8, "linestyle": ":", "zorder": 1}
    lines.append(axes.axhline(everything, label=f"everything accepted {everything:.3f}", **style))
    top = max(float(risk[coverage >= LEAST_COVERAGE].max()) for coverage, risk in checked.values())
    axes.set(xlabel="images accepted (coverage)", ylabel="wrong among accepted (risk)", xlim=(0, 1))
    height = min(1.02, 1.05 * top) or 1.02
    axes.set_ylim(-0.02 * height, height)  # a risk of 0 is seen beside the axis
    legend_below(axes, lines, title=_legend_title("AURC", areas, confidence))


def thin(x: Array, y: Array, *, max_points: int = MAX_POINTS) -> tuple[Array, Array]:
    """Fewer vertices that draw the same line: first, lowest, highest and last of each narrow column of x.

    Args:
        x: (n,) monotone, in the coordinate that is drawn (log10 for a log axis).
        y: (n,) finite.
        max_points: at least 4; n at most this large comes back unchanged.

    Returns:
        The kept points of x and y in their order, both ends and the extremes of y among them.
    """
    kept = _kept(x, y, max_points)
    return x[kept], y[kept]


def _kept(x: Array, y: Array, max_points: int) -> NDArray[np.int64]:
    """Indices that `thin` keeps, rising."""
    if max_points < 4:
        raise InputError(
            f"max_points is {max_points}, but must be at least 4: one column holds up to 4 points."
        )
    span = abs(float(x[-1]) - float(x[0])) if len(x) else 0.0
    if len(x) <= max_points:
        return np.arange(len(x))
    num_columns = max_points // 4
    position = np.abs(x - x[0]) / span if span else np.zeros(len(x))
    column = np.minimum((position * num_columns).astype(np.int64), num_columns - 1)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    lengths = np.diff(starts, append=len(x))
    groups = [starts, starts + lengths - 1]
    for extreme in (np.minimum, np.maximum):
        hits = np.flatnonzero(y == np.repeat(extreme.reduceat(y, starts), lengths))
        groups.append(hits[np.searchsorted(hits, starts)])
    return np.unique(np.concatenate(groups))


def _check(curves: Mapping[str, Curve], areas: Mapping[str, Area] | None) -> dict[str, Curve]:
    """The curves as float64 with rising x, or a sentence about the first that cannot be drawn."""
    if not curves:
        raise InputError("There is no curve to draw: give at least one detector.")
    missing = [name for name in curves if areas is not None and name not in areas]
    if missing:
        raise InputError(f"areas lacks {', '.join(missing)}; it must name every curve.")
    checked = {}
    for name, (x, y) in curves.items():
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
            raise InputError(f"The curve of {name} needs x and y of one length, not {x.shape} and {y.shape}.")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise InputError(f"The curve of {name} holds a NaN or infinite value.")
        steps = np.diff(x)
        if (steps < 0).any() and (steps > 0).any():
            raise InputError(f"The x values of the curve of {name} must rise or fall throughout.")
        checked[name] = (x, y) if x[0] <= x[-1] else (x[::-1], y[::-1])
    return checked


def _log_start(curves: Mapping[str, Curve]) -> float:
    """Left end of a log axis: the smallest positive x of all curves, one decade at least."""
    return min([0.1, *(float(x[x > 0].min()) for x, _ in curves.values() if (x > 0).any())])


def _after(curve: Curve, left: float) -> Curve:
    """The curve from `left` on; what it reached at x = 0 is drawn at `left`."""
    x, y = curve
    first = max(int(np.searchsorted(x, left, side="left")) - 1, 0)
    return np.maximum(x[first:], left), y[first:]


def _draw(
    axes: Axes,
    curves: Mapping[str, Curve],
    areas: Mapping[str, Area] | None,
    *,
    log_x: bool,
    smallest_first: bool = False,
    **style: Any,
) -> list[Line2D]:
    """One line per curve; returned best first when areas are known, the largest unless told otherwise."""
    lines = {}
    for position, (name, (x, y)) in enumerate(curves.items()):
        kept = _kept(np.log10(x) if log_x else x, y, MAX_POINTS)
        label = name if areas is None else f"{name}  {_area_text(areas[name])}"
        (lines[name],) = axes.plot(x[kept], y[kept], label=label, **line_style(position), **style)
    sign = 1 if smallest_first else -1
    ranked = list(lines) if areas is None else sorted(lines, key=lambda name: sign * _value(areas[name]))
    for depth, name in enumerate(ranked):
        lines[name].set_zorder(3 - depth / len(ranked))  # the best stays visible where curves meet
    return [lines[name] for name in ranked]


def _draw_band(axes: Axes, band: tuple[str, Array, Array, Array], position: int, confidence: float) -> Artist:
    """The shaded range of one curve, in its colour."""
    name, fpr, low, high = band
    colour = line_style(position)["color"]
    label = f"{100 * confidence:g} % band of {name}"
    return axes.fill_between(
        fpr, low, high, step="post", color=colour, alpha=0.18, linewidth=0, zorder=1.5, label=label
    )


def _accuracy_lines(axes: Axes, accuracies: Mapping[str, float]) -> list[Line2D]:
    """One dotted line per closed-set accuracy; one network gives all its detectors the same."""
    distinct = sorted({round(value, 9) for value in accuracies.values()})
    label = f"closed-set accuracy {distinct[0]:.3f}" + (
        f" to {distinct[-1]:.3f}" if len(distinct) > 1 else ""
    )
    style: dict[str, Any] = {"color": REFERENCE, "linewidth": 0.8, "linestyle": ":", "zorder": 1}
    return [axes.axhline(value, label=label, **style) for value in distinct][:1]


def _value(area: Area) -> float:
    return area[0] if isinstance(area, tuple) else area


def _area_text(area: Area) -> str:
    if isinstance(area, tuple):
        value, low, high = area
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"
    return f"{area:.3f}"


def _legend_title(metric: str, areas: Mapping[str, Area] | None, confidence: float) -> str | None:
    """What the numbers in the legend are."""
    if areas is None:
        return None
    with_interval = any(isinstance(area, tuple) for area in areas.values())
    return f"{metric} [{100 * confidence:g} % interval]" if with_interval else metric
