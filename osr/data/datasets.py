"""Data sets by name: uint8 images with class ids. A new one is a function and a registry line."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from osr.data.arrays import arrays
from osr.data.file_sets import LISTINGS
from osr.data.images import ImageFiles, ImageSet
from osr.data.reading import read_listing
from osr.data.settings import DatasetSettings
from osr.data.traffic_signs import gtsrb
from osr.data.vision import (
    cifar10,
    cifar10_and_100,
    cifar100,
    emnist_letters,
    fashion_mnist,
    kmnist,
    mnist,
    svhn,
)
from osr.errors import InputError

Load = Callable[[DatasetSettings], ImageSet]


def load_images(settings: DatasetSettings) -> ImageSet:
    """The images that the section `dataset` names.

    Raises:
        InputError: files are missing or damaged, or the user's function is missing or returns something else.
    """
    return (DATASETS.get(settings.name) or _own_function(settings.name))(settings)


def _files(settings: DatasetSettings) -> ImageSet:
    """A set whose images are files; `osr.data.file_sets` lists them."""
    return read_listing(LISTINGS[settings.name](settings), settings)


def _own_function(name: str) -> Load:
    """A function `module:function` of the user's code: from the section `dataset` to an `ImageSet`."""
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        is_its_own = error.name is not None and f"{module_name}.".startswith(f"{error.name}.")
        advice = f"put {module_name.replace('.', '/')}.py where you run the pipeline"
        raise InputError(
            f"dataset.name is {name!r}, but there is no module {error.name!r}; "
            + (f"{advice}." if is_its_own else f"{module_name} imports it.")
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"dataset.name is {name!r}, but {module_name} has no function {function_name!r}.")

    def load(settings: DatasetSettings) -> ImageSet:
        data = function(settings)
        if not isinstance(data, ImageSet):
            raise InputError(
                f"dataset.name: {name} must return an osr.data.images.ImageSet, not {type(data).__name__}."
            )
        if isinstance(data.images, ImageFiles) and data.images.root != Path(settings.root):
            raise InputError(
                f"dataset.name: {name} must return files in dataset.root, {settings.root}, not in "
                f"{data.images.root}."
            )
        return data

    return load


def digits(_settings: DatasetSettings) -> ImageSet:
    """1,797 handwritten digits, 8 x 8 grey (Alpaydin and Kaynak 1998, UCI), shipped with scikit-learn."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Pixels count the set points of a 4 x 4 block: 0..16.
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return ImageSet(images, bunch.target.astype(np.int64), tuple(str(digit) for digit in range(10)))


DATASETS: dict[str, Load] = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "kmnist": kmnist,
    "emnist_letters": emnist_letters,
    "svhn": svhn,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "cifar10+100": cifar10_and_100,
    "gtsrb": gtsrb,
    "tinyimagenet": _files,
    "textures": _files,
    "arrays": arrays,
    "folder": _files,
    "csv": _files,
}
