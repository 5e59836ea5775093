"""A picture to look at before training: a few images of every class in every part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from osr.data.images import ImageFiles
from osr.splits.split import PARTS, Split

if TYPE_CHECKING:
    from PIL import Image

CELL = 40
NAMES_WIDTH = 240
GAP = 12
MAX_LINES = 300


def contact_sheet(images: NDArray[np.uint8] | ImageFiles, split: Split, *, per_part: int = 6) -> Image.Image:
    """One line per class, known ones first, and one block of columns per part.

    Of more than `MAX_LINES` classes some are shown, evenly spread.

    Args:
        images: (N, H, W, C) uint8, C = 1 or 3, or files; only what is shown is read.
        split: whose classes and parts are shown.
        per_part: images per class and part, evenly spread over the rows.
    """
    from PIL import Image, ImageDraw, ImageFont

    roles = ("known", "background", "unknown")
    classes = [(number, role) for role in roles for number in getattr(split, role)]
    lines = [classes[place] for place in spread(len(classes), MAX_LINES)]
    block = per_part * CELL + GAP
    sheet = Image.new("RGB", (NAMES_WIDTH + len(PARTS) * block, (len(lines) + 1) * CELL), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for column, part in enumerate(PARTS):
        draw.text((NAMES_WIDTH + column * block, CELL // 3), part, fill="black", font=font)
    for line, (number, role) in enumerate(lines, start=1):
        name = split.class_names[number]
        shown = name if len(name) <= 30 else f"{name[:29]}…"
        draw.text((6, line * CELL + 4), f"{shown}\n{role}", fill="black", font=font, spacing=2)
        for column, part in enumerate(PARTS):
            rows = split.rows(part)
            rows = rows[split.targets[rows] == number]
            for place, row in enumerate(rows[spread(len(rows), per_part)]):
                corner = (NAMES_WIDTH + column * block + place * CELL, line * CELL)
                sheet.paste(_thumbnail(images[row]), corner)
    return sheet


def pair_sheet(
    images: NDArray[np.uint8] | ImageFiles, pairs: Sequence[tuple[int, int]], texts: Sequence[str]
) -> Image.Image:
    """One line per pair: both images, and two lines of text.

    Args:
        images: (N, H, W, C) uint8, or files.
        pairs: rows of images, at least one pair.
        texts: as many.
    """
    from PIL import Image, ImageDraw, ImageFont

    cell = 2 * CELL
    sheet = Image.new("RGB", (2 * cell + 2 * NAMES_WIDTH, len(pairs) * cell), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for line, (pair, text) in enumerate(zip(pairs, texts, strict=True)):
        for column, row in enumerate(pair):
            sheet.paste(_thumbnail(images[row], cell), (column * cell, line * cell))
        draw.text((2 * cell + GAP, line * cell + CELL // 2), text, fill="black", font=font, spacing=4)
    return sheet


def grid_sheet(images: Sequence[NDArray[np.uint8]], *, columns: int = 12) -> Image.Image:
    """Images in reading order.

    Args:
        images: (H, W, 1 or 3) uint8 of any sizes, at least one.
        columns: to a line.
    """
    from PIL import Image

    cell = 2 * CELL
    size = (min(columns, len(images)) * cell, -(-len(images) // columns) * cell)
    sheet = Image.new("RGB", size, "white")
    for place, image in enumerate(images):
        sheet.paste(_thumbnail(image, cell), (place % columns * cell, place // columns * cell))
    return sheet


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the places 0..count - 1, evenly spread."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)


def _thumbnail(image: NDArray[np.uint8], cell: int = CELL) -> Image.Image:
    """One image as large as its cell allows; small ones keep their pixels as squares."""
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("RGB")
    factor = (cell - 2) / max(picture.size)
    size = (max(1, int(picture.width * factor)), max(1, int(picture.height * factor)))
    return picture.resize(size, Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.BICUBIC)
