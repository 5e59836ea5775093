"""A few training images of each known class beside a classifier: which of them new images are nearest to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from osr.errors import InputError
from osr.inference.judgement import Neighbour
from osr.outputs import FloatArray, IntArray
from osr.stored.arrays import Array, read_arrays, write_arrays
from osr.stored.files import damaged
from osr.stored.origin import Origin, check_origin

SIDE = 64  # pixels of a thumbnail
_ARRAYS = ("thumbnails", "features", "labels")
_PAPER = 128  # grey around an image that is no square

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class TrainingImages:
    """Thumbnails and features of M training images.

    Args:
        thumbnails: (M, SIDE, SIDE, C) uint8, C is 1 or 3.
        features: (M, D) float16, of length 1; of length 0 where the network gave zeros.
        labels: (M,) int64 in 0..K-1.
    """

    thumbnails: Bytes
    features: NDArray[np.float16]
    labels: IntArray

    def __len__(self) -> int:
        return len(self.labels)

    def save(self, path: Path, made_from: Origin) -> None:
        """Write the arrays, whole or not at all.

        Args:
            path: of a safetensors file.
            made_from: digests of the weights that gave the features, and of the split.
        """
        arrays: dict[str, Array] = {name: getattr(self, name) for name in _ARRAYS}
        write_arrays(path, "training images", {}, made_from, arrays)

    @classmethod
    def load(cls, path: Path, origin: Origin, *, num_classes: int) -> Self:
        """Read what `save` wrote; never runs stored code.

        Args:
            path: of the file.
            origin: of the network that is to judge.
            num_classes: K.

        Raises:
            InputError: the file is missing, damaged, was changed, or is of other weights.
        """
        stored, arrays = read_arrays(path, "training images")
        check_origin(path, stored.made_from, origin, beside=path)
        try:
            found = cls(**arrays)
            count, width = found.features.shape
            shape = (count, SIDE, SIDE, found.thumbnails.shape[-1])
            fits = found.thumbnails.shape == shape and found.labels.shape == (count,)
        except (TypeError, ValueError, IndexError) as error:
            raise damaged(path, f"no training images: {error}") from None
        if not (fits and count and width and set(found.labels.tolist()) <= set(range(num_classes))):
            raise damaged(path, f"its images, features and labels are not {count} of {num_classes} classes")
        return found

    def nearest(
        self, features: FloatArray, count: int, class_names: tuple[str, ...]
    ) -> tuple[tuple[Neighbour, ...], ...]:
        """Of each image the training images whose features have the most similar direction, nearest first.

        Args:
            features: (N, D) of new images.
            count: of neighbours, at most M.
            class_names: K names.

        Raises:
            InputError: features of another width.
        """
        if features.shape[1] != self.features.shape[1]:
            raise InputError(
                f"The features have {features.shape[1]} numbers, but those of the training images "
                f"{self.features.shape[1]}."
            )
        similar = _unit(features) @ _unit(self.features).T
        order = np.argsort(-similar, axis=1, kind="stable")[:, :count]
        return tuple(
            tuple(Neighbour(int(at), class_names[self.labels[at]], float(row[at])) for at in best)
            for row, best in zip(similar, order, strict=True)
        )


def chosen_rows(labels: IntArray, per_class: int, *, seed: int = 0) -> IntArray:
    """(M,) int64, in order: at most `per_class` rows of each class 0..K-1, drawn at random.

    Args:
        labels: (N,) int64; negative ones are of no known class.
        per_class: at least 1.
        seed: of the draw.
    """
    rng, classes = np.random.default_rng(seed), np.unique(labels[labels >= 0])
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in classes]
    return np.sort(np.concatenate(drawn)) if drawn else np.empty(0, np.int64)


def check_neighbours(held: TrainingImages | None, count: int) -> None:
    """Refuse a number of neighbours that an exported folder cannot give.

    Raises:
        InputError: it holds fewer training images, or none.
    """
    if count and held is None:
        raise InputError(
            "The exported folder holds no training images: `osr export --neighbours N` puts some there."
        )
    most = 0 if held is None else len(held)
    if not 0 <= count <= most:
        raise InputError(f"neighbours is {count}, but must lie in 0..{most}.")


def unit_float16(features: FloatArray) -> NDArray[np.float16]:
    """(M, D), each of length 1."""
    return _unit(features).astype(np.float16)


def thumbnail(image: Bytes) -> Bytes:
    """(SIDE, SIDE, C) uint8 of (H, W, C): shrunk, or enlarged by whole pixels, on grey."""
    factor = max(1, SIDE // max(image.shape[:2]))
    large = image.repeat(factor, axis=0).repeat(factor, axis=1)
    picture = Image.fromarray(large[..., 0] if large.shape[-1] == 1 else large)
    picture.thumbnail((SIDE, SIDE))
    made = np.full((SIDE, SIDE, image.shape[-1]), _PAPER, np.uint8)
    top, left = (SIDE - picture.height) // 2, (SIDE - picture.width) // 2
    pixels = np.asarray(picture).reshape(picture.height, picture.width, -1)
    made[top : top + picture.height, left : left + picture.width] = pixels
    return made


def _unit(features: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = features.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact / np.where(lengths > 0, lengths, 1))
