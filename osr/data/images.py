"""Labelled images of one data set, with what is published about their division."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.data.image_files import MAX_PIXELS, check_sides, read_image
from osr.data.walking import is_utf8
from osr.errors import InputError
from osr.outputs import IntArray
from osr.splits.leaks import HashArray
from osr.splits.names import as_number
from osr.splits.split import PARTS

_KINDS = {"targets": np.int64, "parts": np.str_, "groups": np.int64, "hashes": np.uint64}


@dataclass(frozen=True)
class ImageFiles:
    """Images of any sizes that stay in their files.

    Args:
        root: folder that `names` are relative to.
        names: (N,) text, a path each.
        channels: 1 or 3, of every image once it is read.
        max_pixels: a larger image is refused.
    """

    root: Path
    names: NDArray[np.str_]
    channels: int
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        """(H, W, C) uint8.

        Raises:
            InputError: the file is missing or damaged.
        """
        return self.read(row)

    def read(self, row: int, *, at_least: int | None = None) -> NDArray[np.uint8]:
        """The same; a JPEG that has many more than `at_least` pixels a side may come smaller.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = self.root / str(self.names[row])
        return read_image(path, channels=self.channels, at_least=at_least, max_pixels=self.max_pixels)

    def select(self, rows: IntArray) -> ImageFiles:
        """Some of the images."""
        return replace(self, names=self.names[rows])


@dataclass(frozen=True)
class OddImage:
    """A file that had to be converted, or could not be read.

    Args:
        name: path relative to the root of the data set.
        problem: what is odd about it.
        is_bad: whether it was left out.
    """

    name: str
    problem: str
    is_bad: bool


@dataclass(frozen=True)
class ImageSet:
    """Labelled images.

    Args:
        images: (N, H, W, C) uint8, C = 1 (grey) or 3 (colour), or the files that hold them.
        targets: (N,) int64, class id of each image, 0..number of classes - 1.
        class_names: the name of each class id, each once.
        parts: (N,) text, the published part of each image: train, val or test; None where none is published.
        groups: (N,) int64, images of one number (a GTSRB track, a patient, a video) stay in one part; None
            where every image stands for itself.
        hashes: (N,) uint64 of the pixels; None where nobody computed them yet.
        odd: what was noticed about the files.
        passed_over: how many files that are no images lay among them, by the ending of their names.

    Raises:
        InputError: shapes, types or values disagree.
    """

    images: NDArray[np.uint8] | ImageFiles
    targets: IntArray
    class_names: tuple[str, ...]
    parts: NDArray[np.str_] | None = None
    groups: IntArray | None = None
    hashes: HashArray | None = None
    odd: tuple[OddImage, ...] = ()
    passed_over: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.images, ImageFiles):
            _check_pixels(self.images)
        for name, kind in _KINDS.items():
            array = getattr(self, name)
            if array is None:
                continue
            if not (isinstance(array, np.ndarray) and np.issubdtype(array.dtype, kind)):
                found = getattr(array, "dtype", type(array).__name__)
                raise InputError(f"{name} must be an array of {kind.__name__}, not {found}.")
            if array.shape != (len(self.images),):
                raise InputError(f"{len(self.images)} images need as many {name}, not {array.shape}.")
        if len(self.targets) and not 0 <= self.targets.min() <= self.targets.max() < len(self.class_names):
            raise InputError(f"targets must lie in 0..{len(self.class_names) - 1}.")
        _check_names(self.class_names)
        self._check_parts()

    def select(self, rows: IntArray) -> ImageSet:
        """Some of the images; the classes keep their numbers."""
        images = self.images
        return replace(
            self,
            images=images.select(rows) if isinstance(images, ImageFiles) else images[rows],
            targets=self.targets[rows],
            parts=None if self.parts is None else self.parts[rows],
            groups=None if self.groups is None else self.groups[rows],
            hashes=None if self.hashes is None else self.hashes[rows],
        )

    def _check_parts(self) -> None:
        if self.parts is None:
            return
        others = set(np.unique(self.parts).tolist()) - set(PARTS)
        if others:
            raise InputError(f"parts must be train, val or test, not {sorted(map(str, others))[0]!r}.")


def _check_names(names: tuple[str, ...]) -> None:
    for name, times in Counter(names).items():
        if not isinstance(name, str) or not name or name != name.strip():
            raise InputError(f"class names must be text without spaces at its ends, not {name!r}.")
        if not is_utf8(name):
            raise InputError(f"class names must be UTF-8, not {name!r}.")
        if times > 1:
            raise InputError(f"class names must differ, but {name!r} stands {times} times.")


def _check_pixels(images: NDArray[np.uint8]) -> None:
    if not isinstance(images, np.ndarray):
        raise InputError(f"images must be an array or ImageFiles, not {type(images).__name__}.")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise InputError(
            f"images must be uint8 of shape (N, H, W, 1 or 3), not {images.dtype} {images.shape}."
        )
    if len(images):
        check_sides("each image of the array", images.shape[2], images.shape[1])


def classes_of(labels: NDArray[Any]) -> tuple[IntArray, tuple[str, ...]]:
    """Class ids of (N,) labels and the names of the classes, in order: as numbers, if all are numbers."""
    values, inverse = np.unique(labels, return_inverse=True)
    names = [str(value) for value in values]
    numbers = [number for name in names if (number := as_number(name)) is not None]
    if len(numbers) == len(names):
        order = sorted(range(len(names)), key=lambda place: (numbers[place], names[place]))
        inverse, names = np.argsort(order)[inverse], [names[place] for place in order]
    return inverse.astype(np.int64), tuple(names)


def numbered(*columns: NDArray[Any]) -> IntArray:
    """(N,) int64 numbers 0.. that are equal where all `columns`, (N,) each, are equal.

    Raises:
        InputError: columns of other shapes.
    """
    numbers = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        if column.shape != numbers.shape:
            raise InputError(f"arrays that make groups must have shape {numbers.shape}, not {column.shape}.")
        values, inverse = np.unique(column, return_inverse=True)
        # Renumbered after each column, so that products stay small.
        numbers = np.unique(numbers * len(values) + inverse, return_inverse=True)[1].astype(np.int64)
    return numbers
