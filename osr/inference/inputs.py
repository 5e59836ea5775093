"""What people have as images to pixels: files, folders, bytes, Pillow's images, arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from osr.data.file_bytes import FileBytes
from osr.data.image_files import MAX_PIXELS, Picture, Square, check_sides, quiet_decoders, read_fitted
from osr.data.walking import find_images
from osr.errors import InputError

OneInput: TypeAlias = str | Path | bytes | Image.Image | NDArray[np.uint8]
Inputs: TypeAlias = OneInput | Sequence[OneInput]
Images: TypeAlias = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")


@quiet_decoders()
def read_inputs(
    inputs: Inputs, *, channels: int, frame: Square
) -> tuple[tuple[str, ...], list[NDArray[np.uint8]]]:
    """Names and (H, W, C) uint8 pixels of N images.

    Args:
        inputs: one or several of: a path (a folder stands for the images in it), the bytes of a file, an
            image of Pillow, an array (H, W) or (H, W, C) uint8; or an array (N, H, W, C).
        channels: 1 or 3: what files, bytes and Pillow's images become; arrays keep theirs, and their size.
        frame: of the network; large files, bytes and Pillow's images are brought to it one by one.

    Returns:
        The path of each file, or its number among the inputs; and the pixels.

    Raises:
        InputError: an input that is none of these, or cannot be read.
    """
    if isinstance(inputs, np.ndarray) and inputs.ndim == 4:
        inputs = list(inputs)
    if isinstance(inputs, str | Path | bytes | Image.Image | np.ndarray):
        inputs = [inputs]
    names, images = list[str](), list[NDArray[np.uint8]]()
    for number, given in enumerate(inputs):
        if isinstance(given, str | Path):
            files, _ = find_images([Path(given)])
            names += map(str, files)
            images += [read_fitted(file, frame, channels=channels).pixels for file in files]
        else:
            names.append(str(number))
            images.append(_pixels(given, number, channels, frame))
    return tuple(names), images


def _pixels(given: object, number: int, channels: int, frame: Square) -> NDArray[np.uint8]:
    if isinstance(given, np.ndarray):
        return given[..., None] if given.ndim == 2 else given
    if isinstance(given, Image.Image):
        file = io.BytesIO()
        given.save(file, "PNG" if given.mode in _PNG_MODES else "TIFF", exif=given.getexif())
        given = file.getvalue()
    if not isinstance(given, bytes):
        raise InputError(
            f"image {number} must be a path, bytes, a Pillow image or an array, not {type(given)}."
        )
    return read_bytes(given, f"image {number}", frame, channels=channels).pixels


def read_bytes(
    content: bytes, name: str, frame: Square, *, channels: int, max_pixels: int = MAX_PIXELS
) -> Picture:
    """The picture in the bytes of a file, by the rules of the one reader.

    Raises:
        InputError: see `osr.data.image_files.read_picture`; the sentence says `name`.
    """
    return read_fitted(FileBytes(name, content), frame, channels=channels, max_pixels=max_pixels)


def batches_of(images: Images, *, channels: int, batch_size: int) -> list[list[int]]:
    """Rows of images of one shape, at most `batch_size` each.

    Args:
        images: N arrays (H, W, C) uint8 of any sizes, or one array (N, H, W, C).
        channels: 1 or 3, of the network; one of colours takes grey images, too.
        batch_size: images at once.

    Raises:
        InputError: an image has another type or shape.
    """
    of_shape: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        right = image.ndim == 3 and image.dtype == np.uint8 and image.shape[2] in {1, channels}
        if not right or 0 in image.shape:
            found = f"{image.dtype} of shape {image.shape}"
            raise InputError(f"image {row} must be (H, W, {channels}) uint8, not {found}.")
        check_sides(f"image {row}", image.shape[1], image.shape[0])
        of_shape.setdefault(image.shape, []).append(row)
    return [
        rows[start : start + batch_size]
        for rows in of_shape.values()
        for start in range(0, len(rows), batch_size)
    ]
