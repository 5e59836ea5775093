"""How every figure looks: fonts, colour-blind safe colours, legends outside the data, repeatable files.

The global state of pyplot is never touched: draw and save inside `styled()`, on a figure from `canvas`.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from osr.errors import InputError

COLUMN_WIDTH = 3.4  # inches, one column of a two-column paper
PAGE_WIDTH = 7.0  # inches, the whole text width

LAYOUT_ROUNDS = 3  # one is not enough where strips, colour bars or equal aspects change the size of the axes

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
# Okabe-Ito without yellow, which vanishes on white, and black, which stays free for references and unknowns.
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
KNOWN_COLOUR, UNKNOWN_COLOUR = BLUE, VERMILLION
INK, REFERENCE = "#222222", "#777777"

LINE_STYLES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
MANY_LABELS = 24  # from here on a legend is set in smaller type
MARKERS = ("o", "s", "^", "D", "v", "P", "<", "p")

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib, so the same everywhere
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "legend.labelspacing": 0.3,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # text stays text in a drawing program
    "svg.hashsalt": "osr",  # names inside the file do not depend on chance
}
# What prints each kind of file, and what of it would tell the date or the version of matplotlib.
PRINTERS: dict[str, tuple[type[FigureCanvasBase], dict[str, None]]] = {
    ".png": (FigureCanvasAgg, {"Software": None}),
    ".pdf": (FigureCanvasPdf, {"CreationDate": None, "Creator": None, "Producer": None}),
    ".svg": (FigureCanvasSVG, {"Date": None, "Creator": None}),
}


@contextmanager
def styled() -> Iterator[None]:
    """The style sheet over matplotlib's own defaults, whatever the user's matplotlibrc says."""
    with matplotlib.style.context(RC, after_reset=True):
        yield


def canvas(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches that makes room for labels and outside legends."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a PNG, PDF or SVG whose bytes depend on the drawing alone; it appears whole or not at all.

    The layout of the figure is settled here, at this resolution, and then stays.

    Raises:
        InputError: the file name ends in something else.
    """
    if path.suffix not in PRINTERS:
        raise InputError(f"{path} must end in {', '.join(PRINTERS)}.")
    figure.set_dpi(dpi)
    settle(figure)
    buffer = io.BytesIO()
    printer, left_out = PRINTERS[path.suffix]
    # `figure.savefig` would draw twice: once before, for a layout that is settled here.
    getattr(printer(figure), f"print_{path.suffix[1:]}")(buffer, metadata=left_out)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(buffer.getvalue())
    partial.replace(path)


def settle(figure: Figure) -> None:
    """Lay the figure out until nothing moves, without drawing it, and keep it so."""
    engine, before = figure.get_layout_engine(), None
    for _ in range(LAYOUT_ROUNDS if engine else 0):
        engine.execute(figure)  # type: ignore[union-attr]
        places = [axes.get_position().bounds for axes in figure.axes]
        if places == before:
            break
        before = places
    figure.set_layout_engine("none")


def line_style(position: int) -> dict[str, Any]:
    """Colour and dashes of the line at `position`: 24 combinations, then they repeat."""
    dashes = LINE_STYLES[position // len(PALETTE) % len(LINE_STYLES)]
    return {"color": PALETTE[position % len(PALETTE)], "linestyle": dashes}


def legend_below(
    axes: Axes,
    handles: Sequence[Artist],
    *,
    title: str | None = None,
    gap: float = 4.6,
    handlelength: float = 2.2,
) -> None:
    """A legend under the axes, with as many columns as fit side by side.

    Args:
        axes: whose legend it is.
        handles: labelled artists, in the order of the legend.
        title: heading of the legend.
        gap: from the axes to the legend in font sizes; room for tick labels and the x label.
        handlelength: width of the sample before each label in font sizes.
    """
    labels = [str(handle.get_label()) for handle in handles]
    fontsize = 7.0 if len(labels) <= MANY_LABELS else 6.0
    column = (0.55 * max(len(label) for label in labels) + handlelength + 2.0) * fontsize / 72  # inches
    room = 1.28 * axes_inches(axes)[0]  # the legend may reach as far left as the y label
    columns = max(1, min(int(room / column), math.ceil(len(labels) / 4)))
    axes.legend(
        handles=handles,
        title=title,
        ncols=columns,
        fontsize=fontsize,
        handlelength=handlelength,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        borderaxespad=gap * 7.0 / fontsize,
        columnspacing=1.2,
        alignment="left",
    )


def short(name: str, *, longest: int = 18) -> str:
    """The name, cut with an ellipsis when it is too long for a tick or a legend."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def axes_inches(axes: Axes) -> tuple[float, float]:
    """Width and height of the axes before the layout makes room for labels."""
    return axes.bbox.width / axes.figure.dpi, axes.bbox.height / axes.figure.dpi
