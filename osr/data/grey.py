"""Grey images of more than eight bits: mapped to 0..255 by the range that their values have."""

from __future__ import annotations

import numpy as np
from PIL import Image

from osr.data.file_bytes import File
from osr.errors import InputError


def eight_bits(image: Image.Image, path: File) -> tuple[Image.Image, str]:
    """The image as it is, or a deep grey one in eight bits, and what was done to it.

    A camera of 12 bits writes 0..4095 into files of 16, which would come out nearly black. So the range is
    0..2**b - 1 of the smallest even number of bits b >= 8 that holds the brightest pixel. It is that of one
    image: the same in training and in use, whatever the others are.

    Raises:
        InputError: negative values, or floating-point ones, whose range nothing says.
    """
    if image.mode == "F":
        raise InputError(f"{path} has floating-point pixels, whose range nothing says; save it with 8 bits.")
    if not image.mode.startswith("I"):
        return image, ""
    values = np.asarray(image)
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0:
        raise InputError(f"{path} has pixels from {lowest} to {highest}, but must have none below 0.")
    bits = max(8, highest.bit_length() + highest.bit_length() % 2)
    top = 2**bits - 1
    grey = Image.fromarray((values.astype(np.int64) * 255 // top).astype(np.uint8))
    return grey, f"{bits}-bit grey, 0..{top} read as 0..255"
