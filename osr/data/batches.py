"""Batches of small images that live as one uint8 tensor on the device; each image gets its own draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from osr.config import TrainSettings
from osr.data.augmentation import augment

Batch = tuple[Tensor, Tensor]


class Images(Protocol):
    """Labelled images that come in batches."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64: 0..K-1 known, -1 unknown, -2 background."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Images:
        """The same images, whose batches appear on `device`."""

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All images in order, as they are: (B, C, H, W) uint8 and (B,) int64 labels."""

    def epoch_batches(
        self, settings: TrainSettings, *, epoch: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """One pass in random order, augmented; of every batch the share of process `rank`."""


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

    def to(self, device: torch.device) -> TensorImages:
        """The same images on `device`."""
        return TensorImages(self.images.to(device), self.labels.to(device))

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """See `Images`."""
        for start in range(0, len(self), batch_size):
            rows = slice(start, start + batch_size)
            yield self.images[rows], self.labels[rows]

    def epoch_batches(
        self, settings: TrainSettings, *, epoch: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """See `Images`; everything is drawn for the whole batch of all processes."""
        for images, labels in epoch_batches(self, settings, epoch=epoch, world_size=world_size):
            yield images.tensor_split(world_size)[rank], labels.tensor_split(world_size)[rank]


def epoch_batches(
    data: TensorImages, settings: TrainSettings, *, epoch: int, world_size: int = 1
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
    for rows in order.tensor_split(num_batches(len(data), settings.batch_size, world_size)):
        rows = rows.to(data.labels.device)
        yield augment(data.images[rows], settings.augmentation, generator), data.labels[rows]


def num_batches(num_images: int, batch_size: int, world_size: int = 1) -> int:
    """Batches per epoch, as few as `batch_size` allows; one image per process would break batch norm."""
    return max(1, min(-(-num_images // batch_size), num_images // (2 * world_size)))


def hash_seed(seed: int, epoch: int) -> int:
    """A seed for one epoch of one run; neighbours share no stream (finaliser of splitmix64)."""
    mask = (1 << 64) - 1
    mixed = (seed * 0x9E3779B97F4A7C15 + epoch + 1) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return (mixed ^ (mixed >> 31)) >> 1
