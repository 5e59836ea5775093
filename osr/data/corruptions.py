"""Known images as they come on a bad day: noise, blur, JPEG, contrast and rotation in five severities.

The kinds are those of Hendrycks and Dietterich (2019), with amounts of our own, blur in shares of the image:
these are no ImageNet-C images. What is drawn for an image depends on seed and row alone, not on its batch.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from osr.data.augmentation import affine
from osr.data.batches import Batch, Ordered
from osr.data.plans import hash_seed
from osr.outputs import IntArray
from osr.settings.base import CorruptionName

SEVERITIES = 5
NOISE = (0.04, 0.08, 0.12, 0.18, 0.26)  # standard deviation, of pixels in 0..1
BLUR = (0.01, 0.015, 0.02, 0.03, 0.04)  # standard deviation, of the shorter side …
BLUR_PIXELS = (0.4, 0.5, 0.6, 0.8, 1.0)  # … and at least so many pixels, below which nothing is seen
QUALITY = (25, 18, 15, 10, 7)  # of JPEG
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # what is left of it
DEGREES = (6.0, 12.0, 18.0, 24.0, 30.0)  # either way, at most: a 6 stays a 6


@dataclass(frozen=True)
class Corrupted:
    """Images whose batches are corrupted; for extraction alone.

    Args:
        images: N of them.
        rows: (N,) int64, the row of each in the split: what is drawn depends on it.
        kind: of the corruption.
        severity: 1..5.
        seed: of the draws.
    """

    images: Ordered
    rows: IntArray
    kind: CorruptionName
    severity: int
    seed: int

    @property
    def labels(self) -> Tensor:
        """(N,) int64, those of the images."""
        return self.images.labels

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """All images from `start` on, corrupted: (B, C, H, W) uint8 on their device, (B,) int64 labels."""
        for images, labels in self.images.batches(batch_size, start=start):
            rows = self.rows[start : start + len(images)]
            yield corrupt(images, rows, kind=self.kind, severity=self.severity, seed=self.seed), labels
            start += len(images)


def corrupt(images: Tensor, rows: IntArray, *, kind: CorruptionName, severity: int, seed: int) -> Tensor:
    """Corrupted images.

    Args:
        images: (B, C, H, W) uint8.
        rows: (B,) int64, a number of each image.
        kind: of the corruption.
        severity: 1..5.
        seed: of the draws.

    Returns:
        (B, C, H, W) uint8, on the device of the images.
    """
    generators = [np.random.default_rng(hash_seed(seed, int(row))) for row in rows]
    changed: Tensor = CORRUPTIONS[kind](images.cpu(), severity - 1, generators)
    return changed.to(images.device)


Draws = list[np.random.Generator]


def _noise(images: Tensor, level: int, draws: Draws) -> Tensor:
    shape = images.shape[1:]
    noise = torch.from_numpy(np.stack([draw.standard_normal(shape, np.float32) for draw in draws]))
    return _bytes(images + 255 * NOISE[level] * noise)


def _blur(images: Tensor, level: int, _draws: Draws) -> Tensor:
    from torchvision.transforms.v2.functional import gaussian_blur

    sigma = max(BLUR[level] * min(images.shape[2:]), BLUR_PIXELS[level])
    reach = min(max(1, round(3 * sigma)), min(images.shape[2:]) - 1)  # as far as reflections at the edge go
    return _bytes(gaussian_blur(images.float(), [2 * reach + 1] * 2, [sigma] * 2)) if reach else images


def _jpeg(images: Tensor, level: int, _draws: Draws) -> Tensor:
    from PIL import Image

    pixels = images.permute(0, 2, 3, 1).numpy()
    changed = np.empty_like(pixels)
    for number, image in enumerate(pixels):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(
            file, "JPEG", quality=QUALITY[level]
        )
        changed[number] = np.asarray(Image.open(file)).reshape(image.shape)
    return torch.from_numpy(np.ascontiguousarray(changed.transpose(0, 3, 1, 2)))


def _contrast(images: Tensor, level: int, _draws: Draws) -> Tensor:
    pixels = images.float()
    mean = pixels.mean((2, 3), keepdim=True)
    return _bytes((pixels - mean) * CONTRAST[level] + mean)


def _rotation(images: Tensor, level: int, draws: Draws) -> Tensor:
    signs = torch.tensor([1.0 if draw.random() < 0.5 else -1.0 for draw in draws])
    still = torch.zeros(len(images))
    return affine(images, angle=signs * DEGREES[level], scale=still + 1, shear=still)


def _bytes(pixels: Tensor) -> Tensor:
    return pixels.round().clamp(0, 255).to(torch.uint8)


CORRUPTIONS: dict[CorruptionName, Callable[[Tensor, int, Draws], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "contrast": _contrast,
    "rotation": _rotation,
}
