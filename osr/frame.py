"""How pictures of any size become squares of one: for files, for arrays and for a deployed network alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True)
class Frame:
    """The square that every image is brought to.

    Args:
        size: height and width in pixels.
        interpolation: nearest, bilinear or bicubic; the last two antialiased.
        crop_fraction: the shorter side becomes `size` / `crop_fraction` pixels, and the square in the middle
            is kept; None squeezes the whole image into the square.
    """

    size: int
    interpolation: str = "bilinear"
    crop_fraction: float | None = None

    @property
    def short_side(self) -> int:
        """Pixels of the shorter side before the crop."""
        return (
            self.size if self.crop_fraction is None else max(self.size, int(self.size / self.crop_fraction))
        )

    def fit(self, pixels: Tensor) -> Tensor:
        """(B, C, size, size) of (B, C, H, W), uint8 or float32 in 0..1; those of that size stay."""
        height, width = pixels.shape[2:]
        if (height, width) == (self.size, self.size):
            return pixels
        if self.crop_fraction is None:
            return self._resized(pixels, self.size, self.size)
        short = self.short_side
        scale = short / min(height, width)
        pixels = self._resized(pixels, max(short, int(height * scale)), max(short, int(width * scale)))
        top, left = ((side - self.size) // 2 for side in pixels.shape[2:])
        return pixels[:, :, top : top + self.size, left : left + self.size]

    def fit_one(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(C, size, size) uint8 of one image (H, W, C)."""
        return self.fit(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])[0]

    def shrunk(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(size, size, C) uint8 of one image (H, W, C)."""
        return self.fit_one(pixels).permute(1, 2, 0).numpy()

    def _resized(self, pixels: Tensor, height: int, width: int) -> Tensor:
        if self.interpolation == "nearest":
            return nn.functional.interpolate(pixels, (height, width), mode="nearest-exact")
        mode = self.interpolation
        resized = nn.functional.interpolate(pixels, (height, width), mode=mode, antialias=True)
        return resized.clamp(0, 1) if resized.is_floating_point() and mode == "bicubic" else resized
