"""Test images side by side, each with a few lines of text under it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from osr.errors import InputError
from osr.plots.style import PAGE_WIDTH, canvas, short

COLUMNS = 8
ROOM = 0.42  # inches under each image for its text
LONGEST = 15  # letters of a line; a wider one would take room from every image
SMALL = 64  # pixels: up to here they are drawn as squares, larger images are smoothed


@dataclass(frozen=True)
class Tile:
    """An image and what stands under it.

    Args:
        image: (H, W, C) uint8, C = 1 or 3.
        lines: of text, from the top.
    """

    image: NDArray[np.uint8]
    lines: tuple[str, ...]


def gallery(tiles: Sequence[Tile], *, title: str) -> Figure:
    """A page-wide figure of images in reading order, eight to a line.

    Args:
        tiles: at least one.
        title: above them.

    Raises:
        InputError: there is no image, or one is not (H, W, 1 or 3) uint8.
    """
    if not tiles:
        raise InputError("A gallery needs at least one image.")
    rows = math.ceil(len(tiles) / COLUMNS)
    figure = canvas(PAGE_WIDTH, 0.3 + rows * (PAGE_WIDTH / COLUMNS + ROOM))
    figure.suptitle(title, fontsize=8.5)
    planes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in planes:
        axes.set_axis_off()
    for axes, tile in zip(planes, tiles, strict=False):  # the last line may have room left
        axes.imshow(_pixels(tile.image), **_look(tile.image))
        text = "\n".join(short(line, longest=LONGEST) for line in tile.lines)
        axes.text(0.5, -0.04, text, transform=axes.transAxes, ha="center", va="top", fontsize=6)
    return figure


def _pixels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or image.dtype != np.uint8:
        raise InputError(
            f"An image of a gallery must be (H, W, 1 or 3) uint8, not {image.shape} {image.dtype}."
        )
    return image[..., 0] if image.shape[-1] == 1 else image


def _look(image: NDArray[np.uint8]) -> dict[str, Any]:
    grey: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.shape[-1] == 1 else {}
    return {"interpolation": "nearest" if max(image.shape) <= SMALL else "antialiased", **grey}
