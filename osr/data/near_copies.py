"""Images that look like one another and stand in different parts, though their pixels differ.

A photo saved twice, resized or recompressed, has nearly the same fingerprint: 64 bits of dHash, the signs of
the differences between neighbours in a grey picture of 8 x 9 cells. Pairs that share a quarter of it are
compared on larger pictures, because other images share one, too. A copy of which every quarter differs in a
bit is missed. Small images have too few cells to tell a copy from another digit: none are looked for below
`SMALLEST` pixels.
"""

from __future__ import annotations

import os
from itertools import pairwise
from multiprocessing.pool import ThreadPool

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from osr.data.images import ImageFiles
from osr.outputs import IntArray
from osr.progress import Steps
from osr.splits.leaks import HashArray

SMALLEST = 48  # pixels of the shorter side
MAX_BITS = 10  # of 64 in which the fingerprints of a pair differ at most
BAND_BITS = 16  # of a quarter, which must be equal
SIDE = 32  # pixels of the pictures that are compared
LARGEST_GAP = 5.0  # mean difference of their grey levels, of 256; a photo's from its JPEG are 1 to 3.5
LEAST_CONTRAST = 8.0  # standard deviation of grey levels; flat pictures are alike without being copies
MOST_ALIKE = 200  # images that share a band; a commoner one says nothing


def near_copies(
    images: NDArray[np.uint8] | ImageFiles, codes: IntArray, hashes: HashArray | None = None
) -> list[tuple[int, int]]:
    """Pairs of rows in different parts whose images are near-copies, in order.

    Args:
        images: (N, H, W, C) uint8, or files.
        codes: (N,) int64, the part of each image; negative for an image in no part.
        hashes: (N,) uint64, equal for identical images, which are no near-copies; None where not known.

    Raises:
        InputError: an image that stays a file cannot be read.
    """
    if not isinstance(images, ImageFiles) and min(images.shape[1:3]) < SMALLEST:
        return []
    rows = np.flatnonzero(codes >= 0)
    looks = []
    with ThreadPool(os.cpu_count()) as pool, Steps("compare images", len(rows), "images") as steps:
        for look in pool.imap(lambda row: _look(images[row]), rows.tolist(), chunksize=64):
            looks.append(look)
            steps.step()
    kept = [place for place, look in enumerate(looks) if look is not None]
    prints = np.array([look[0] for look in looks if look is not None], dtype=np.uint64)
    pictures = {place: look[1] for place, look in enumerate(looks) if look is not None}
    found = []
    for one, two in _close(prints):
        first, second = kept[one], kept[two]
        a, b = int(rows[first]), int(rows[second])
        if codes[a] == codes[b] or (hashes is not None and hashes[a] == hashes[b]):
            continue
        gap = np.abs(pictures[first].astype(np.int16) - pictures[second]).mean()
        if gap <= LARGEST_GAP:
            found.append((a, b))
    return sorted(found)


def _look(image: NDArray[np.uint8]) -> tuple[int, NDArray[np.uint8]] | None:
    """Fingerprint and small grey picture (SIDE, SIDE); None where it is too small or too flat to tell."""
    if min(image.shape[:2]) < SMALLEST:
        return None
    grey = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("L")
    picture = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))
    if picture.std() < LEAST_CONTRAST:
        return None
    cells = np.asarray(grey.resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    bits = np.packbits(cells[:, 1:] > cells[:, :-1])
    return int(bits.view("<u8")[0]), picture


def _close(prints: HashArray) -> list[tuple[int, int]]:
    """Places of pairs that share a band and differ in at most MAX_BITS bits, each once."""
    found = set[tuple[int, int]]()
    for band in range(64 // BAND_BITS):
        keys = (prints >> np.uint64(band * BAND_BITS)) & np.uint64((1 << BAND_BITS) - 1)
        order = np.argsort(keys, kind="stable")
        edges = np.flatnonzero(np.diff(keys[order])) + 1
        for start, end in pairwise([0, *edges.tolist(), len(order)]):
            if 1 < end - start <= MOST_ALIKE:
                members = order[start:end]
                bits = np.bitwise_count(prints[members][:, None] ^ prints[members][None])
                pairs = np.argwhere(np.triu(bits <= MAX_BITS, 1))
                found |= {(min(pair), max(pair)) for pair in members[pairs].tolist()}
    return sorted(found)
