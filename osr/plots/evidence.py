"""The evidence of a monitored stream, image by image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osr.plots.style import PALETTE, canvas, legend_below, save, styled


def evidence(path: NDArray[np.float64], limit: float, file: Path, *, first: int, dpi: int = 150) -> None:
    """Draw it on a logarithmic axis, with the limit that raises the alarm.

    Args:
        path: (N,) natural logarithms of the evidence.
        limit: evidence that raises the alarm.
        file: a PNG, PDF or SVG.
        first: number of the first image.
        dpi: pixels per inch.
    """
    with styled():
        figure = canvas(6.0, 3.2)
        axes = figure.subplots()
        numbers = np.arange(first, first + len(path))
        (line,) = axes.plot(numbers, path / np.log(10), color=PALETTE[0], label="evidence")
        alarm = axes.axhline(np.log10(limit), color="#b34700", linestyle="--", label=f"alarm at {limit:g}")
        axes.set_xlabel("images judged")
        axes.set_ylabel("evidence against known images\n(powers of ten)")
        legend_below(axes, [line, alarm])
        save(figure, file, dpi)
