"""Large images to the square that the network was trained on: to the last bit as torch resizes bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osr_runtime.shared.resampling import weights

Bytes = NDArray[np.uint8]
_PLACES = 16  # of the result that are made at once, so that a large image is never float64 as a whole
_LARGEST_WEIGHT = 1 << 15
_MOST_BITS = 22


@dataclass(frozen=True)
class Square:
    """Numpy's `osr.frame.Frame`.

    Args:
        size: height and width in pixels.
        interpolation: nearest, bilinear or bicubic; the last two antialiased.
        crop_fraction: the shorter side becomes `size` / `crop_fraction` pixels, and the square in the middle
            is kept; None squeezes the whole image into the square.
    """

    size: int
    interpolation: str
    crop_fraction: float | None

    @property
    def short_side(self) -> int:
        """Pixels of the shorter side before the crop."""
        whole = self.size if self.crop_fraction is None else int(self.size / self.crop_fraction)
        return max(self.size, whole)

    def shrunk(self, pixels: Bytes) -> Bytes:
        """(size, size, C) uint8 of one image (H, W, C)."""
        height, width = pixels.shape[:2]
        if (height, width) == (self.size, self.size):
            return pixels
        tall = wide = self.size
        if self.crop_fraction is not None:
            scale = self.short_side / min(height, width)
            tall, wide = (max(self.short_side, int(side * scale)) for side in (height, width))
        across = self._along(pixels.swapaxes(0, 1), wide).swapaxes(0, 1)
        return np.ascontiguousarray(self._along(across, tall))

    def _along(self, pixels: Bytes, resized: int) -> Bytes:
        """(size, ...) of (L, ...): the first axis is resized, and its middle kept."""
        length, start = len(pixels), (resized - self.size) // 2
        kept = np.arange(start, start + self.size)
        if self.interpolation == "nearest":
            stretch = np.float32(length) / np.float32(resized)
            kept = np.minimum(((kept + 0.5) * stretch).astype(np.float32).astype(int), length - 1)
            return np.asarray(pixels[kept])
        if resized == length:
            return np.asarray(pixels[kept])
        whole, bits = _whole_weights(length, resized, self.interpolation)
        result = np.empty((self.size, *pixels.shape[1:]), np.uint8)
        for first in range(0, self.size, _PLACES):
            rows = whole[kept[first : first + _PLACES]]
            seen = np.flatnonzero(rows.any(0))
            part = slice(seen[0], seen[-1] + 1)
            # Whole numbers below 2**53: float64 products are exact, and fast.
            sums = np.tensordot(rows[:, part], pixels[part].astype(np.float64), axes=1)
            levels = np.floor((sums + 2.0 ** (bits - 1)) / 2.0**bits)
            result[first : first + _PLACES] = levels.clip(0, 255)
        return result


def _whole_weights(length: int, resized: int, interpolation: str) -> tuple[NDArray[np.float64], int]:
    """Weights (resized, length) as whole numbers of 1 / 2**bits, as many bits as 16 hold; and the bits."""
    stretch = length / resized
    centres = (np.arange(resized) + 0.5)[:, None] * stretch
    exact = weights(centres, np.arange(length)[None], max(stretch, 1.0), interpolation)
    largest, bits = float(exact.max()), 0
    while bits < _MOST_BITS and int(0.5 + largest * 2 ** (bits + 1)) < _LARGEST_WEIGHT:
        bits += 1
    return np.trunc(exact * 2.0**bits + np.copysign(0.5, exact)), bits
