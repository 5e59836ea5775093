"""Batches of small images that live as one uint8 tensor on the device; each image gets its own draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from osr.config import TrainSettings
from osr.data.augmentation import augment


@dataclass(frozen=True)
class TensorImages:
    """Images and labels on one device.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def epoch_batches(
    data: TensorImages, settings: TrainSettings, *, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over `data` in random order, augmented.

    The order and the draws depend on seed and epoch alone, so a resumed run sees what an uninterrupted one
    would. Batches differ in size by at most one image.

    Yields:
        (B, C, H, W) uint8 images and (B,) int64 labels, 2 <= B <= batch_size; B is 3 once where batches of 2
        would leave one image over.
    """
    generator = torch.Generator().manual_seed(hash_seed(settings.seed, epoch))
    order = torch.randperm(len(data), generator=generator)
    for rows in order.tensor_split(num_batches(len(data), settings.batch_size)):
        rows = rows.to(data.labels.device)
        yield augment(data.images[rows], settings.augmentation, generator), data.labels[rows]


def num_batches(num_images: int, batch_size: int) -> int:
    """Batches per epoch, as few as `batch_size` allows; none of a single image, which breaks batch norm."""
    return max(1, min(-(-num_images // batch_size), num_images // 2))


def hash_seed(seed: int, epoch: int) -> int:
    """A seed for one epoch of one run; neighbours share no stream (finaliser of splitmix64)."""
    mask = (1 << 64) - 1
    mixed = (seed * 0x9E3779B97F4A7C15 + epoch + 1) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return (mixed ^ (mixed >> 31)) >> 1
