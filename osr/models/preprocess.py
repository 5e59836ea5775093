"""From stored images to what the network takes: size, channels, normalisation, in one place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from osr.errors import InputError
from osr.models.backbones import pretrained_statistics
from osr.models.settings import ModelSettings


@dataclass(frozen=True)
class ImageFormat:
    """What the network takes, in one place.

    Args:
        size: height and width in pixels; other images are resized (bilinear, antialiased).
        channels: 1 or 3; grey images are repeated for a colour network.
        mean, std: per channel, of pixels in 0..1.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


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
        if images.shape[2:] != (self.format.size, self.format.size):
            size = (self.format.size, self.format.size)
            pixels = nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return (pixels - mean) / std


def format_for(settings: ModelSettings, images: NDArray[np.uint8]) -> ImageFormat:
    """What the network of `settings` takes when it is trained on `images`.

    Pretrained timm weights keep the channels and the normalisation they were made with; otherwise mean and
    standard deviation come from the training images.

    Args:
        settings: the `model` section of params.yaml.
        images: (N, H, W, C) uint8, the training images.

    Raises:
        InputError: `image_size: auto` with images that are not square.
    """
    height, width, channels = images.shape[1:]
    if settings.image_size == "auto" and height != width:
        raise InputError(f"model.image_size must be a number of pixels for images of {height} x {width}.")
    size = height if settings.image_size == "auto" else settings.image_size
    if settings.backbone.weights != "none":
        published = pretrained_statistics(settings.backbone.name)
        if published:
            mean, std = published
            return ImageFormat(size, len(mean), mean, std)
    # Sums of bytes and of their squares are exact in integers, whatever the order.
    histogram = [np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(channels)]
    values = np.arange(256) / 255
    mean = tuple(float(np.average(values, weights=counts)) for counts in histogram)
    spread = (np.sqrt(np.average((values - m) ** 2, weights=c)) for m, c in zip(mean, histogram, strict=True))
    return ImageFormat(size, channels, mean, tuple(float(max(s, 1 / 255)) for s in spread))
