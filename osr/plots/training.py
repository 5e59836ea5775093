"""Loss and accuracy of training and validation, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from osr.errors import InputError
from osr.plots.style import BLUE, INK, VERMILLION, legend_below

Array = NDArray[Any]

COLUMNS = ("epoch", "train/loss", "train/accuracy", "val/loss", "val/accuracy")
SERIES = {"train": (BLUE, (0, (4, 1.5))), "val": (VERMILLION, "-")}
FEW_EPOCHS = 12  # up to here every epoch gets a dot


def training_curves(
    axes: tuple[Axes, Axes], history: Mapping[str, Array], *, best_epoch: int | None, step: str = "epoch"
) -> None:
    """Loss on the first axes, accuracy on the second, the best epoch marked with its validation values.

    Args:
        axes: for loss and for accuracy.
        history: columns epoch, train/loss, train/accuracy, val/loss, val/accuracy, each (epochs,),
            NaN where nothing was measured; other columns are ignored.
        best_epoch: whose weights were kept, as in the column epoch; None marks nothing.
        step: what a row of the history is called.

    Raises:
        InputError: a column is missing or of another length, there is no epoch, or best_epoch is not in it.
    """
    columns = _check(history, best_epoch)
    for plane, quantity in zip(axes, ("loss", "accuracy"), strict=True):
        handles = []
        for part, (colour, dashes) in SERIES.items():
            values = columns[f"{part}/{quantity}"]
            measured = np.isfinite(values)
            marker = "o" if measured.sum() <= FEW_EPOCHS else ""
            style: dict[str, Any] = {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 3}
            label = "validation" if part == "val" else "training"
            handles += plane.plot(columns["epoch"][measured], values[measured], label=label, **style)
        if best_epoch is not None:
            value = float(columns[f"val/{quantity}"][columns["epoch"] == best_epoch][0])
            label = f"best {step} {best_epoch}: {value:.3f}"
            handles.append(
                plane.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=":", label=label, zorder=1)
            )
            plane.plot(best_epoch, value, "o", color=SERIES["val"][0], markersize=4, zorder=4)
        plane.set(xlabel=step, ylabel=quantity, xlim=columns["epoch"][[0, -1]] + np.array([-0.5, 0.5]))
        plane.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        legend_below(plane, handles)
    axes[0].set_ylim(0, 1.08 * axes[0].dataLim.ymax)
    axes[1].set_ylim(max(0.0, axes[1].dataLim.ymin - 0.05), 1.02)


def _check(history: Mapping[str, Array], best_epoch: int | None) -> dict[str, Array]:
    """The columns that are drawn."""
    missing = [name for name in COLUMNS if name not in history]
    if missing:
        raise InputError(f"The training history lacks {', '.join(missing)}; it has {', '.join(history)}.")
    columns = {name: np.asarray(history[name], dtype=np.float64) for name in COLUMNS}
    if len({values.shape for values in columns.values()}) > 1 or columns["epoch"].ndim != 1:
        raise InputError("The columns of the training history must be of one length.")
    if not len(columns["epoch"]):
        raise InputError("The training history holds no epoch.")
    if best_epoch is not None and best_epoch not in columns["epoch"]:
        first, last = columns["epoch"][[0, -1]]
        raise InputError(f"best_epoch is {best_epoch}, but the history covers epochs {first:g} to {last:g}.")
    return columns
