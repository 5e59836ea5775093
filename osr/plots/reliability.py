"""Reliability diagram: accuracy against confidence in equal-width bins, before and after calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from numpy.typing import NDArray

from osr.errors import InputError
from osr.plots.style import BLUE, GREEN, REFERENCE, VERMILLION, legend_below

Array = NDArray[Any]
Table = Mapping[str, Array]  # columns confidence, accuracy, count: one row per bin

COLOURS, MARKERS = (VERMILLION, BLUE, GREEN), ("o", "s", "^")


def reliability(axes: Axes, tables: Mapping[str, Table], *, ece: Mapping[str, float]) -> None:
    """Mean confidence and accuracy of each bin, with the share of images per bin in a strip above.

    The area of a marker grows with the share of images. Empty bins have no marker and interrupt the line.

    Args:
        axes: where to draw.
        tables: name, for example "before", -> columns confidence, accuracy and count, each (bins,), of equal
            bins over 0..1; confidence and accuracy of an empty bin are not read. At most three tables.
        ece: name -> expected calibration error in 0..1, for the legend.

    Raises:
        InputError: no table or more than three, a column that is missing or of another length, or no image.
    """
    if not 1 <= len(tables) <= len(COLOURS):
        raise InputError(f"A reliability diagram compares 1 to {len(COLOURS)} tables, not {len(tables)}.")
    strip = axes.inset_axes((0, 1.04, 1, 0.2))
    handles: list[Artist] = []
    for (name, table), colour, marker in zip(tables.items(), COLOURS, MARKERS, strict=False):
        confidence, accuracy, count = _check(table, name)
        filled = count > 0
        shares = count / count.sum()
        line: dict[str, Any] = {"color": colour, "linewidth": 0.9, "alpha": 0.6, "zorder": 3}
        axes.plot(np.where(filled, confidence, np.nan), np.where(filled, accuracy, np.nan), **line)
        axes.scatter(
            confidence[filled], accuracy[filled], s=7 + 70 * shares[filled], color=colour, marker=marker,
            alpha=0.8, linewidths=0, clip_on=False, zorder=4,
        )  # fmt: skip
        key: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.0}
        handles += axes.plot([], [], label=f"{name}: ECE {ece[name]:.3f}", **key)
        strip.stairs(shares, np.linspace(0, 1, len(count) + 1), color=colour, linewidth=1.0)
    handles += axes.plot(
        [0, 1], [0, 1], color=REFERENCE, linewidth=0.8, linestyle=":", zorder=1, label="calibrated"
    )
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    strip.set(xlim=(0, 1), ylabel="share")
    strip.set_ylim(0, 1.15 * strip.dataLim.ymax)
    strip.tick_params(labelbottom=False)
    legend_below(axes, handles)


def _check(table: Table, name: str) -> tuple[Array, Array, Array]:
    """The three columns of a table."""
    missing = [column for column in ("confidence", "accuracy", "count") if column not in table]
    if missing:
        raise InputError(
            f"The reliability table {name!r} lacks {', '.join(missing)}; it has {', '.join(table)}."
        )
    confidence, accuracy, count = (
        np.asarray(table[key], dtype=np.float64) for key in ("confidence", "accuracy", "count")
    )
    if not confidence.shape == accuracy.shape == count.shape or count.ndim != 1:
        raise InputError(f"The columns of the reliability table {name!r} must be of one length.")
    if not count.sum() > 0:
        raise InputError(f"The reliability table {name!r} counts no image.")
    return confidence, accuracy, count
