"""Image files of any size and mode to the pixels a network takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from osr.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
_MODES = {1: "L", 3: "RGB"}


def find_images(paths: list[Path]) -> list[Path]:
    """The files named, and those below a folder whose name ends like an image's, in alphabetical order.

    Raises:
        InputError: a path does not exist, or a folder holds no image.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise InputError(f"{path} holds no image: names must end in one of {', '.join(SUFFIXES)}.")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"{path} does not exist.")
    return found


def read_image(path: Path, *, channels: int) -> NDArray[np.uint8]:
    """One image as (H, W, channels) uint8, upright; transparent pixels are laid on white.

    Args:
        path: any file that Pillow reads; of an animation the first picture counts.
        channels: 1 or 3.

    Raises:
        InputError: no image, a damaged one, or one whose pixels have no range that could be mapped to 0..255.
    """
    try:
        with Image.open(path) as image:
            pixels = _eight_bit(ImageOps.exif_transpose(image), path)
        if pixels.has_transparency_data:
            pixels = pixels.convert("RGBA")
            pixels = Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels)
        array = np.asarray(pixels.convert(_MODES[channels]))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no image that can be read: {why(error)}.") from error
    return array[..., None] if channels == 1 else array


def why(error: Exception) -> str:
    """What Pillow says is wrong with a file, without the path."""
    return "its format is unknown" if isinstance(error, UnidentifiedImageError) else str(error).rstrip(".")


def _eight_bit(image: Image.Image, path: Path) -> Image.Image:
    """The image as it is, or a 16-bit grey one scaled to 8 bits, which Pillow would clip instead."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
            raise InputError(f"{path} has pixels from {values.min()} to {values.max()}, beyond 16 bits.")
        return Image.fromarray((values // 257).astype(np.uint8))
    if image.mode == "F":
        raise InputError(f"{path} has floating-point pixels, whose range nothing says; save it with 8 bits.")
    image.load()
    return image
