"""From stored images to what the network takes: size, channels, normalisation, in one place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from osr.errors import InputError
from osr.frame import Frame
from osr.models.settings import ModelSettings
from osr.models.trained_input import trained_input


@dataclass(frozen=True)
class ImageFormat:
    """What the network takes, in one place.

    Args:
        size: height and width in pixels.
        channels: 1 or 3; grey images are repeated for a colour network.
        mean, std: per channel, of pixels in 0..1.
        interpolation, crop_fraction: how others are brought to `size`, see `Frame`.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop_fraction: float | None = None

    @property
    def frame(self) -> Frame:
        """The square that images are brought to."""
        return Frame(self.size, self.interpolation, self.crop_fraction)


class Preprocess(nn.Module):
    """(B, C, H, W) uint8 images to the normalised float images of an `ImageFormat`."""

    def __init__(self, image_format: ImageFormat) -> None:
        super().__init__()
        self.format = image_format
        for name in ("mean", "std"):
            values = torch.tensor(getattr(image_format, name)).view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, size, size) float32."""
        pixels = images.to(torch.float32) / 255
        if images.shape[1] == 1 and self.format.channels == 3:
            pixels = pixels.expand(-1, 3, -1, -1)
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return (self.format.frame.fit(pixels) - mean) / std


def frame_for(settings: ModelSettings, shape: tuple[int, int] | None) -> Frame:
    """The square that images are brought to: as the settings say, else as the trained weights want it.

    Args:
        settings: the `model` section of params.yaml.
        shape: height and width of the images; None for files, which have many.

    Raises:
        InputError: `image_size: auto`, no trained weights, and images of no one size, or that are not square.
    """
    trained, chosen = trained_input(settings.backbone), settings.image
    size = settings.image_size
    if size == "auto" and trained is not None:
        size = trained.size
    if size == "auto":
        if shape is None:
            raise InputError(
                "model.image_size is 'auto', but must be a number of pixels while images stay files and no "
                "trained weights have a size of their own; or set dataset.pack_size to a number of pixels."
            )
        if shape[0] != shape[1]:
            told = f"{shape[0]} x {shape[1]}"
            raise InputError(f"model.image_size must be a number of pixels for images of {told}.")
        size = shape[0]
    interpolation: str = chosen.interpolation
    crop = chosen.crop_fraction
    if interpolation == "auto":
        interpolation = trained.interpolation if trained is not None else "bilinear"
    if crop == "auto":
        return Frame(size, interpolation, None if trained is None else trained.crop_fraction)
    return Frame(size, interpolation, None if crop == "none" else crop)


def needs_statistics(settings: ModelSettings) -> bool:
    """Whether mean and standard deviation come from the training images."""
    return not settings.image.mean and trained_input(settings.backbone) is None


def format_for(settings: ModelSettings, images: NDArray[np.uint8]) -> ImageFormat:
    """What the network of `settings` takes when it is trained on `images`.

    Trained weights keep the channels, normalisation, size, interpolation and crop they were made with, but
    for what the settings say; otherwise mean and standard deviation come from the training images.

    Args:
        settings: the `model` section of params.yaml.
        images: (N, H, W, C) uint8, the training images, or one of them where their statistics do not count.

    Raises:
        InputError: see `frame_for`.
    """
    frame, trained = frame_for(settings, (images.shape[1], images.shape[2])), trained_input(settings.backbone)
    if settings.image.mean:
        mean, std = settings.image.mean, settings.image.std
    elif trained is not None:
        mean, std = trained.mean, trained.std
    else:
        mean, std = _statistics(images)
    return ImageFormat(frame.size, len(mean), mean, std, frame.interpolation, frame.crop_fraction)


def _statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel; the latter at least one grey level."""
    # Sums of bytes and of their squares are exact in integers, whatever the order.
    histogram = [np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[3])]
    values = np.arange(256) / 255
    mean = tuple(float(np.average(values, weights=counts)) for counts in histogram)
    spread = (np.sqrt(np.average((values - m) ** 2, weights=c)) for m, c in zip(mean, histogram, strict=True))
    return mean, tuple(float(max(s, 1 / 255)) for s in spread)
