"""Data sets by name: one uint8 array with class ids. A new one is a function and a registry line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osr.errors import InputError
from osr.outputs import IntArray


@dataclass(frozen=True)
class ImageSet:
    """Labelled images.

    Args:
        images: (N, H, W, C) uint8, C = 1 (grey) or 3 (colour).
        targets: (N,) int64, class id of each image, 0..number of classes - 1.
        class_names: the name of each class id.

    Raises:
        InputError: shapes or types disagree.
    """

    images: NDArray[np.uint8]
    targets: IntArray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[3] not in (1, 3):
            raise InputError(
                "images must be uint8 of shape (N, H, W, 1 or 3), "
                f"not {self.images.dtype} {self.images.shape}."
            )
        if self.targets.shape != (len(self.images),):
            raise InputError(f"{len(self.images)} images need as many targets, not {self.targets.shape}.")
        if len(self.targets) and not 0 <= self.targets.min() <= self.targets.max() < len(self.class_names):
            raise InputError(f"targets must lie in 0..{len(self.class_names) - 1}.")


def digits() -> ImageSet:
    """1,797 handwritten digits, 8 x 8 grey (Alpaydin and Kaynak 1998, UCI), shipped with scikit-learn."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Pixels count the set points of a 4 x 4 block: 0..16.
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return ImageSet(images, bunch.target.astype(np.int64), tuple(str(digit) for digit in range(10)))


DATASETS: dict[str, Callable[[], ImageSet]] = {"digits": digits}
