"""A number for the pixels of each image: identical images have the same one."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from osr.data.images import ImageFiles, ImageSet
from osr.leaks import HashArray


def hashes_of(data: ImageSet) -> HashArray:
    """The hashes of a data set, computed where they are not there yet."""
    if data.hashes is not None:
        return data.hashes
    if isinstance(data.images, ImageFiles):
        raise TypeError("files are hashed when they are read")
    return image_hashes(data.images)


def image_hashes(images: NDArray[np.uint8]) -> HashArray:
    """64-bit BLAKE2b of each image's pixels.

    Two different images among a million share a number with a chance of about 3e-8.

    Args:
        images: (N, ...) uint8, of one shape.

    Returns:
        (N,) uint64.
    """
    digests = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
