"""Small pictures inside a page of HTML."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray

SIDE = 96  # pixels, the least side of an image shown in a page


def thumbnail(image: NDArray[np.uint8]) -> str:
    """A `data:` address of the image (H, W, 1 or 3) uint8, whole pixels enlarged where it is small."""
    from PIL import Image

    pixels = image[..., 0] if image.shape[-1] == 1 else image
    factor = max(1, math.ceil(SIDE / max(pixels.shape[:2])))
    picture = Image.fromarray(np.ascontiguousarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1)))
    picture.thumbnail((2 * SIDE, 2 * SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return inline(buffer.getvalue())


def inline(png: bytes) -> str:
    """A `data:` address of a PNG file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
