"""Confusion matrix of an open-set classifier: K known classes, then *unknown* as last row and column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from numpy.typing import NDArray

from osr.errors import InputError
from osr.plots.style import INK, axes_inches, short

Array = NDArray[Any]

MAX_TEXT_CLASSES = 25
SMALLEST_FONT, LARGEST_FONT = 4.0, 7.5  # points
SHADES = LinearSegmentedColormap.from_list("shades", ["#f6f8fa", "#9ecae1", "#0072B2", "#08306b"])


def confusion(axes: Axes, matrix: Array, *, names: Sequence[str]) -> None:
    """Counts as text, colour by the share of the row; a gap sets the unknown row and column apart.

    Shades grow with the square root of the share, so that rare confusions show. Counts of zero stay blank; so
    do all counts above 25 known classes, or when cells are too small to read.

    Args:
        axes: where to draw.
        matrix: (K + 1, K + 1) counts, true class by decision, unknown last.
        names: the K known classes.

    Raises:
        InputError: the matrix is not square, holds a negative count, or its size is not len(names) + 1.
    """
    matrix, num_known = _check(matrix, len(names)), len(names)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    gap = max(0.2, 0.02 * num_known)
    edges = np.concatenate([np.arange(num_known + 1), num_known + gap + np.arange(2)])
    _draw_cells(axes, shares, edges=edges)
    centres = np.append(np.arange(num_known) + 0.5, num_known + gap + 0.5)
    cell = 72 * 0.8 * min(axes_inches(axes)) / edges[-1]  # points, after labels took their part
    if num_known <= MAX_TEXT_CLASSES:
        _write_counts(axes, matrix, shares=shares, centres=centres, cell=cell)
    _label_ticks(axes, [short(str(name)) for name in names], centres=centres, cell=cell)
    axes.set(xlim=(0, edges[-1]), ylim=(edges[-1], 0), aspect="equal", xlabel="decision", ylabel="true class")


def _check(matrix: Array, num_known: int) -> Array:
    matrix = np.asarray(matrix)
    if matrix.shape != (num_known + 1, num_known + 1):
        raise InputError(
            f"The confusion matrix has shape {matrix.shape}, but {num_known} names need "
            f"{(num_known + 1, num_known + 1)}: one row and column per known class and unknown last."
        )
    if not (matrix >= 0).all():
        raise InputError("The confusion matrix must hold counts, but one is negative or NaN.")
    return matrix


def _draw_cells(axes: Axes, shares: Array, *, edges: Array) -> None:
    """Coloured cells with a blank gap before the last row and column, and a colour bar beside them."""
    last = len(shares) - 1
    colours = np.insert(np.insert(shares, last, np.nan, axis=0), last, np.nan, axis=1)
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    mesh = axes.pcolormesh(edges, edges, np.ma.masked_invalid(colours), cmap=SHADES, norm=norm)
    beside = axes.inset_axes((1.04, 0.15, 0.03, 0.7))
    bar = axes.figure.colorbar(mesh, cax=beside, ticks=[0, 0.05, 0.2, 0.5, 1], format="%g")
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _write_counts(axes: Axes, matrix: Array, *, shares: Array, centres: Array, cell: float) -> None:
    """The counts that are not zero, dark on light and light on dark, if they can be read."""
    longest = len(f"{matrix.max():g}")
    size = min(LARGEST_FONT, 0.7 * cell, 0.72 * cell / (0.62 * longest))
    if size < SMALLEST_FONT:
        return
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if shares[row, column] > 0.3 else INK
        text = f"{matrix[row, column]:g}"
        axes.text(
            centres[column],
            centres[row],
            text,
            color=colour,
            fontsize=size,
            ha="center",
            va="center_baseline",
        )


def _label_ticks(axes: Axes, names: list[str], *, centres: Array, cell: float) -> None:
    """Class names where they fit, every second or third name in small figures, unknown always."""
    size = float(np.clip(0.8 * cell, 5.0, LARGEST_FONT))
    every = max(1, int(np.ceil(1.1 * size / cell)))
    shown = [*range(0, len(names), every), len(names)]
    if shown[-2] > len(names) - every:  # would touch the label of unknown
        del shown[-2]
    labels = [[*names, "unknown"][position] for position in shown]
    fits = [len(label) * 0.6 * size < cell * every for label in labels]
    axes.set_xticks(centres[shown], labels, fontsize=size)
    *ticks, last = axes.get_xticklabels()
    for tick in ticks:  # all names alike
        tick.set_rotation(0 if all(fits[:-1]) else 90)
    last.set_rotation(0 if all(fits) else 90)
    axes.set_yticks(centres[shown], labels, fontsize=size)
    axes.tick_params(length=0, pad=2)
