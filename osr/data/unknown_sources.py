"""Other data sets that are only tested: unknown ones, near and far, and known classes that look otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from osr.data.hashes import hashes_of
from osr.data.images import ImageFiles, ImageSet
from osr.data.settings import DatasetSettings, SourceSettings
from osr.errors import InputError
from osr.outputs import UNKNOWN, IntArray
from osr.settings.sentences import listed
from osr.splits.split import HELD_OUT, Split

GREY = np.array([0.299, 0.587, 0.114])


def load_sources(
    settings: DatasetSettings, load: Callable[[DatasetSettings], ImageSet], *, like: ImageSet
) -> dict[str, ImageSet]:
    """The tested images of every unknown source, with the size and channels of `like`.

    Args:
        settings: the section `dataset`.
        load: reads the images that such a section names.
        like: the main data set.

    Raises:
        InputError: a source cannot be read, or has no image.
    """
    return _loaded("unknown_sources", settings.unknown_sources, settings, load, like)


def load_known_sources(
    settings: DatasetSettings,
    load: Callable[[DatasetSettings], ImageSet],
    *,
    like: ImageSet,
    known_names: Sequence[str],
) -> dict[str, tuple[ImageSet, IntArray]]:
    """The tested images of known classes of every known source, and their labels (N,) int64 in 0..K-1.

    Images of other classes are left out.

    Args:
        settings: the section `dataset`.
        load: reads the images that such a section names.
        like: the main data set.
        known_names: names of the K known classes, in label order.

    Raises:
        InputError: as `load_sources` does; or a source has no image of a known class.
    """
    found = {}
    for name, data in _loaded("known_sources", settings.known_sources, settings, load, like).items():
        place = {class_name: label for label, class_name in enumerate(known_names)}
        labels = np.array([place.get(class_name, UNKNOWN) for class_name in data.class_names])[data.targets]
        rows = np.flatnonzero(labels >= 0)
        if not len(rows):
            raise InputError(
                f"dataset.known_sources: {name} has the classes {listed(data.class_names)}, but must have "
                f"images of known ones: {listed(known_names)}."
            )
        found[name] = (_selected(data, rows), np.asarray(labels[rows], dtype=np.int64))
    return found


def _loaded(
    key: str,
    sections: Sequence[SourceSettings],
    settings: DatasetSettings,
    load: Callable[[DatasetSettings], ImageSet],
    like: ImageSet,
) -> dict[str, ImageSet]:
    found = {}
    for section in sections:
        tested = part_to_test(load(settings.of_source(section)))
        if not len(tested.targets):
            raise InputError(f"dataset.{key}: {section.source} has no image to test.")
        found[section.source] = _matched(tested, like, f"dataset.{key}: {section.source}")
    return found


def _selected(data: ImageSet, rows: IntArray) -> ImageSet:
    return replace(
        data,
        images=data.images.select(rows) if isinstance(data.images, ImageFiles) else data.images[rows],
        targets=data.targets[rows],
        parts=None if data.parts is None else data.parts[rows],
        groups=None if data.groups is None else data.groups[rows],
        hashes=None if data.hashes is None else data.hashes[rows],
    )


def _matched(data: ImageSet, like: ImageSet, source: str) -> ImageSet:
    """Images of the kind of the main set: pixels of its shape, or files in its root."""
    if not isinstance(like.images, ImageFiles):
        pixels = resized(data.images, like.images.shape[1:])
        return replace(data, images=pixels, hashes=data.hashes if pixels is data.images else None)
    if not isinstance(data.images, ImageFiles) or data.images.root != like.images.root:
        raise InputError(
            f"{source} must be files in {like.images.root}, too, because the images "
            "of the main set stay files; or set dataset.pack_size to a number of pixels."
        )
    return replace(data, images=replace(data.images, channels=like.images.channels))


def part_to_test(data: ImageSet) -> ImageSet:
    """The images of the published test part, or all where there is none; without classes that have none."""
    rows = np.arange(len(data.targets))
    if data.parts is not None and (data.parts == "test").any():
        rows = np.flatnonzero(data.parts == "test")
    present, targets = np.unique(data.targets[rows], return_inverse=True)
    return ImageSet(
        data.images.select(rows) if isinstance(data.images, ImageFiles) else data.images[rows],
        targets.astype(np.int64),
        tuple(data.class_names[number] for number in present),
        groups=None if data.groups is None else data.groups[rows],
        hashes=None if data.hashes is None else data.hashes[rows],
        odd=data.odd,
    )


def resized(images: NDArray[np.uint8] | ImageFiles, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Images of another set in the height, width and channels of the main one; bilinear, antialiased.

    Args:
        images: (N, H, W, 1 or 3) uint8, or files.
        shape: (height, width, channels).
    """
    height, width, channels = shape
    if isinstance(images, ImageFiles):
        images = replace(images, channels=channels)
    elif images.shape[3] > channels:
        images = (images @ GREY).round().astype(np.uint8)[..., None]
    elif images.shape[3] < channels:
        images = np.repeat(images, channels, axis=3)
    if not isinstance(images, ImageFiles) and images.shape[1:] == shape:
        return images
    changed = np.empty((len(images), height, width, channels), dtype=np.uint8)
    for row in range(len(images)):
        image = images[row]
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        changed[row] = pixels.reshape(shape)
    return changed


def add_sources(split: Split, sources: Mapping[str, ImageSet]) -> Split:
    """The split with the images of every source behind its own, all of them tested and unknown.

    The name of a class becomes `source/class`, so that two sets may share one.
    """
    for name, data in sources.items():
        split = _added(split, name, data)
    return split


def _added(split: Split, name: str, data: ImageSet) -> Split:
    first_class, first_row = len(split.class_names), len(split.targets)
    classes = tuple(f"{name}/{class_name}" for class_name in data.class_names)
    hashes = None if split.hashes is None else np.concatenate([split.hashes, hashes_of(data)])
    return replace(
        split,
        targets=np.concatenate([split.targets, data.targets + first_class]),
        class_names=split.class_names + classes,
        unknown=split.unknown + tuple(range(first_class, first_class + len(classes))),
        test=np.concatenate([split.test, np.arange(first_row, first_row + len(data.targets))]),
        groups=_groups(split, data),
        hashes=hashes,
        sources=(split.sources or (HELD_OUT,) * first_class) + (name,) * len(classes),
    )


def _groups(split: Split, data: ImageSet) -> IntArray | None:
    """Numbers of both sets' groups; an image of a set without groups stands for itself."""
    if split.groups is None and data.groups is None:
        return None
    first = np.arange(len(split.targets)) if split.groups is None else split.groups
    second = np.arange(len(data.targets)) if data.groups is None else data.groups
    return np.concatenate([first, second - second.min() + first.max() + 1])
