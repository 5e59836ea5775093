"""Images in batches: the one interface of training and extraction, and small images that live in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osr.data.augmentation import augment
from osr.data.beside import finished
from osr.data.plans import Draws, epoch_plans
from osr.data.plans import hash_seed as hash_seed
from osr.data.plans import num_batches as num_batches
from osr.data.settings import BatchSettings
from osr.outputs import IntArray

Batch = tuple[Tensor, Tensor]
TOGETHER = 4  # batches that are augmented at once: small operations cost as much as large ones


class Ordered(Protocol):
    """Labelled images that come in batches, in their order: all that extraction asks for."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64: 0..K-1 known, -1 unknown, -2 background."""

    def __len__(self) -> int: ...

    def batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """All images in order, from `start` on, as they are: (B, C, H, W) uint8 and (B,) int64 labels."""


class Images(Ordered, Protocol):
    """Labelled images that also come in random order, augmented, from memory or from files."""

    def to(self, device: torch.device) -> Images:
        """The same images, whose batches appear on `device`."""

    def epoch_batches(
        self, settings: BatchSettings, *, epoch: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """One pass in random order, augmented; this process's share of every batch.

        Order and draws depend on seed and epoch alone: a resumed run sees what an uninterrupted one would,
        and all processes together what one alone would. Batches differ in size by at most one image.

        Args:
            settings: the `train` section; batch_size counts the images of all processes together.
            epoch: from 0.
            rank: which of the processes.
            world_size: how many processes take part.

        Yields:
            (B, C, H, W) uint8 images, B >= 2, and (B,) int64 labels; with mixup or cutmix (B, K) float32
            shares of the classes; `osr.data.beside` tells of batches that are twice as long. Without
            processes beside this one, B is at most batch_size, but 3 once where batches of 2 would leave one
            image over.
        """


@dataclass(frozen=True)
class TensorImages:
    """Small images on one device.

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

    def batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """See `Images`."""
        for first in range(start, len(self), batch_size):
            rows = slice(first, first + batch_size)
            yield self.images[rows], self.labels[rows]

    def epoch_batches(
        self, settings: BatchSettings, *, epoch: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """See `Images`."""
        num_classes = int(self.labels.max()) + 1
        plans = epoch_plans(len(self), settings, epoch=epoch, rank=rank, world_size=world_size)
        while together := list(islice(plans, TOGETHER)):
            rows = torch.cat([plan.rows for plan in together]).to(self.labels.device)
            draws = Draws.cat([plan.draws for plan in together])
            changed = augment(self.images.index_select(0, rows), draws, settings.augmentation)
            sizes = [len(plan.rows) for plan in together]
            batches = zip(torch.split(changed, sizes), torch.split(self.labels[rows], sizes), strict=True)
            for plan, (images, labels) in zip(together, batches, strict=True):
                yield finished(images, labels, plan, settings.augmentation, num_classes=num_classes)


def as_batch(images: NDArray[np.uint8]) -> Tensor:
    """(N, C, H, W) uint8 of (N, H, W, C), in one layout: the last bits of outputs depend on it."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


@dataclass(frozen=True)
class ArrayImages:
    """Some rows of an array on disk, read batch by batch; `to` reads all of them at once, for training.

    Args:
        array: (M, H, W, C) uint8, may be memory-mapped.
        rows: (N,) int64, which images, in this order.
        labels: (N,) int64, their labels.
    """

    array: NDArray[np.uint8]
    rows: IntArray
    labels: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> TensorImages:
        """All images in the memory of `device`."""
        return TensorImages(self._read(self.rows), self.labels).to(device)

    def batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """See `Images`."""
        for first in range(start, len(self), batch_size):
            chunk = slice(first, first + batch_size)
            yield self._read(self.rows[chunk]), self.labels[chunk]

    def epoch_batches(
        self, settings: BatchSettings, *, epoch: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """See `Images`; reads all images: call `to` once instead for several epochs."""
        whole = self.to(self.labels.device)
        yield from whole.epoch_batches(settings, epoch=epoch, rank=rank, world_size=world_size)

    def _read(self, rows: IntArray) -> Tensor:
        return as_batch(self.array[rows])
