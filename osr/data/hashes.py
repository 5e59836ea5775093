"""A number for the pixels of each image: identical images have the same one."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from osr.data.images import ImageFiles, ImageSet
from osr.splits.leaks import HashArray


def hashes_of(data: ImageSet) -> HashArray:
    """The hashes of a data set, computed where they are not there yet.

    Raises:
        InputError: an image that stays a file cannot be read.
    """
    if data.hashes is not None:
        return data.hashes
    if isinstance(data.images, ImageFiles):
        files = data.images
        return np.array([hash_of_any_size(files[row]) for row in range(len(files))], dtype=np.uint64)
    return image_hashes(data.images)


def hash_of_any_size(image: NDArray[np.uint8]) -> int:
    """64-bit BLAKE2b of shape and pixels, for images that differ in size."""
    return content_hash(repr(image.shape).encode() + image.tobytes())


def content_hash(content: bytes) -> int:
    """64-bit BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


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
