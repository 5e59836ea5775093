"""Images that stay files: workers decode, resize and augment whole batches; see `osr.data.batches.Images`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from osr.data.ahead import ahead
from osr.data.augmentation import augment
from osr.data.batches import Batch
from osr.data.beside import finished
from osr.data.image_files import quiet_decoders
from osr.data.image_files import read_fitted as read_fitted
from osr.data.images import ImageFiles
from osr.data.plans import Plan, epoch_plans
from osr.data.settings import AugmentationSettings, BatchSettings
from osr.frame import Frame
from osr.outputs import IntArray


@dataclass(frozen=True)
class FileImages:
    """Some images of a folder.

    The batches do not depend on the number of workers: what is drawn for an image is decided before a worker
    sees it.

    Args:
        files: where they are.
        rows: (N,) int64, which of them, in this order.
        labels: (N,) int64, their labels.
        frame: the square that they are brought to.
        num_workers: processes that read ahead; 0 reads in this one.
        device: where the batches appear.
    """

    files: ImageFiles
    rows: IntArray
    labels: Tensor
    frame: Frame
    num_workers: int
    device: torch.device = torch.device("cpu")  # noqa: RUF009, it never changes

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> FileImages:
        """The same images, whose batches appear on `device`."""
        return replace(self, labels=self.labels.to(device), device=device)

    def batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """See `Images`."""
        rest = range(start, len(self), batch_size)  # none where all are read, as when a killed stage goes on
        positions = tuple(torch.arange(first, min(first + batch_size, len(self))) for first in rest)
        yield from self._loaded(_Plain(self, positions))

    def epoch_batches(
        self, settings: BatchSettings, *, epoch: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """See `Images`; with `min_crop_area`, each image is first cropped at random."""
        plans = list(epoch_plans(len(self), settings, epoch=epoch, rank=rank, world_size=world_size))
        yield from self._loaded(_Augmented(self, plans, settings.augmentation))

    def _loaded(self, batches: _Plain | _Augmented) -> Iterator[Batch]:
        loaded = ahead(batches.__getitem__, range(len(batches)), num_workers=self.num_workers)
        for images, labels in loaded:
            yield images.to(self.device), labels.to(self.device)

    @quiet_decoders()
    def read(self, positions: Tensor, crops: Tensor | None = None, min_area: float = 1.0) -> Tensor:
        """(B, C, size, size) uint8, in the frame.

        Args:
            positions: (B,) int64 in 0..N-1.
            crops: (B,) int64, seed of each image's crop; None for whole images.
            min_area: smallest share of the area that a crop keeps.
        """
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import RandomResizedCrop

        frame = self.frame
        mode = InterpolationMode(frame.interpolation)
        crop = RandomResizedCrop(frame.size, scale=(min_area, 1.0), interpolation=mode, antialias=True)
        images, needed = [], math.ceil(frame.short_side / math.sqrt(min_area))
        for number, position in enumerate(positions.tolist()):
            pixels = self.files.read(int(self.rows[position]), at_least=needed)
            if crops is None:
                images.append(frame.fit_one(pixels))
                continue
            image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
            with torch.random.fork_rng(devices=()):
                torch.manual_seed(int(crops[number]))
                images.append(crop(image))
        return torch.stack(images)


class _Plain:
    """Batches in order, as the images are."""

    def __init__(self, images: FileImages, positions: tuple[Tensor, ...]) -> None:
        self.images, self.positions, self.labels = images, positions, images.labels.cpu()

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, number: int) -> Batch:
        return self.images.read(self.positions[number]), self.labels[self.positions[number]]


class _Augmented:
    """Batches as planned."""

    def __init__(self, images: FileImages, plans: list[Plan], settings: AugmentationSettings) -> None:
        self.images, self.plans, self.settings = images, plans, settings
        self.labels = images.labels.cpu()
        self.num_classes = int(self.labels.max()) + 1

    def __len__(self) -> int:
        return len(self.plans)

    def __getitem__(self, number: int) -> Batch:
        plan, area = self.plans[number], self.settings.min_crop_area
        crops = plan.draws.seed if area < 1 else None
        images = augment(self.images.read(plan.rows, crops, area), plan.draws, self.settings)
        labels = self.labels[plan.rows]
        return finished(images, labels, plan, self.settings, num_classes=self.num_classes)
