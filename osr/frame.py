"""How pictures of any size become squares of one: for files, for arrays and for a deployed network alike."""

from __future__ import annotations

from dataclasses import dataclass

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

    def fit(self, pixels: Tensor) -> Tensor:
        """(B, C, size, size) of (B, C, H, W), uint8 or float32 in 0..1; those of that size stay."""
        height, width = pixels.shape[2:]
        if (height, width) == (self.size, self.size):
            return pixels
        if self.crop_fraction is None:
            return self._resized(pixels, self.size, self.size)
        short = max(self.size, int(self.size / self.crop_fraction))
        scale = short / min(height, width)
        pixels = self._resized(pixels, max(short, int(height * scale)), max(short, int(width * scale)))
        top, left = ((side - self.size) // 2 for side in pixels.shape[2:])
        return pixels[:, :, top : top + self.size, left : left + self.size]

    def _resized(self, pixels: Tensor, height: int, width: int) -> Tensor:
        if self.interpolation == "nearest":
            return nn.functional.interpolate(pixels, (height, width), mode="nearest-exact")
        mode = self.interpolation
        resized = nn.functional.interpolate(pixels, (height, width), mode=mode, antialias=True)
        return resized.clamp(0, 1) if resized.is_floating_point() and mode == "bicubic" else resized
