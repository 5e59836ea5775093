"""Labelled images from memory or from files, and some that stand for all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from osr.data.batches import ArrayImages, Images
from osr.data.file_images import FileImages
from osr.data.images import ImageFiles
from osr.frame import Frame
from osr.outputs import IntArray

SAMPLE = 1000  # images whose mean and standard deviation normalise those that stay files

Pixels = NDArray[np.uint8] | ImageFiles


def labelled(images: Pixels, rows: IntArray, labels: IntArray, *, frame: Frame, num_workers: int) -> Images:
    """Some images with their labels, read when they are asked for.

    Args:
        images: (M, H, W, C) uint8, or files.
        rows: (N,) int64, which of them.
        labels: (N,) int64 of these.
        frame: the square that files are brought to.
        num_workers: processes that read files.
    """
    if isinstance(images, ImageFiles):
        return FileImages(images, rows, torch.from_numpy(labels), frame, num_workers)
    return ArrayImages(images, rows, torch.from_numpy(labels))


def sample_of(images: Pixels, rows: IntArray, frame: Callable[[], Frame]) -> NDArray[np.uint8]:
    """(M, H, W, C) uint8, images that stand for those of `rows`: all, or some of many files.

    Args:
        images: as for `labelled`.
        rows: (N,) int64.
        frame: what files are brought to; asked only where the images are files.
    """
    if not isinstance(images, ImageFiles):
        return images[rows]
    spread = rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).round().astype(np.int64)]
    data = FileImages(images, spread, torch.zeros(len(spread), dtype=torch.int64), frame(), 0)
    pixels = [batch.permute(0, 2, 3, 1).numpy() for batch, _ in data.batches(64)]
    sample: NDArray[np.uint8] = np.concatenate(pixels)
    return sample
