"""The images of some classes: files of all others are not opened."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from osr.data.datasets import load_images
from osr.data.file_sets import LISTINGS
from osr.data.files import Listing
from osr.data.images import ImageSet
from osr.data.labelled import Pixels
from osr.data.reading import read_listing
from osr.data.settings import DatasetSettings
from osr.outputs import IntArray

NOT_READ = -1


@dataclass(frozen=True)
class ChosenImages:
    """Labels of all images outside of a published test part, and the images of some classes.

    The labels of the others are kept because a division draws for every class, one after the other.

    Args:
        images: those that were read.
        targets: (N,) int64, class ids of all.
        class_names: the name of each class id.
        places: (N,) int64, where each stands in `images`; -1 of those that were not read.
        groups: (N,) int64, or None.
    """

    images: Pixels
    targets: IntArray
    class_names: tuple[str, ...]
    places: IntArray
    groups: IntArray | None


def load_classes(
    settings: DatasetSettings, choose: Callable[[tuple[str, ...]], Collection[int]]
) -> ChosenImages:
    """Read the images of some classes, outside of a published test part.

    What stands in one file with others (an .npz, MNIST) is read with them, and they are dropped. What a
    function of the user's own opens is for it to say.

    Args:
        settings: the section `dataset`.
        choose: names of all classes -> ids of the wanted ones.

    Raises:
        InputError: as `osr.data.datasets.load_images`, of the wanted images.
    """
    listing = LISTINGS[settings.name](settings) if settings.name in LISTINGS else None
    found: Listing | ImageSet = load_images(settings) if listing is None else listing
    kept = np.arange(len(found.targets)) if found.parts is None else np.flatnonzero(found.parts != "test")
    is_wanted = np.isin(found.targets[kept], list(choose(found.class_names)))
    if isinstance(found, ImageSet):
        images = found.select(kept[is_wanted]).images
    else:
        wanted = found.select(kept[is_wanted])
        read = read_listing(wanted, settings)
        bad = [image.name for image in read.odd if image.is_bad]
        is_bad = np.isin(wanted.names, bad)
        kept = np.delete(kept, np.flatnonzero(is_wanted)[is_bad])
        is_wanted = np.delete(is_wanted, np.flatnonzero(is_wanted)[is_bad])
        images = read.images
    places = np.full(len(kept), NOT_READ, dtype=np.int64)
    places[is_wanted] = np.arange(int(is_wanted.sum()))
    groups = None if found.groups is None else found.groups[kept]
    return ChosenImages(images, found.targets[kept], found.class_names, places, groups)
