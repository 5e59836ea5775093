"""Published data sets through torchvision: official test parts, class names, where files go."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from osr.data import class_names
from osr.data.images import ImageSet
from osr.data.settings import DatasetSettings
from osr.errors import InputError

DIGITS = tuple("0123456789")
CIFAR_FILES = ("cifar-10-python.tar.gz", "cifar-100-python.tar.gz")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
_IDX = [
    f"{part}-{content}-ubyte.gz" for part in ("train", "t10k") for content in ("images-idx3", "labels-idx1")
]
Make = Callable[..., Any]
# What torchvision raises without a network, and where a file is not whole.
DAMAGES = (
    RuntimeError,
    OSError,
    EOFError,
    HTTPException,
    ValueError,
    AssertionError,
    BadZipFile,
    TarError,
    zlib.error,
)


def both_parts(settings: DatasetSettings, make: Make, files: Sequence[str]) -> tuple[Any, Any]:
    """The official training and test part as torchvision data sets.

    Args:
        settings: root and whether to download.
        make: takes the keywords root, train and download.
        files: what it needs, relative to root, as published.

    Raises:
        InputError: files are missing or damaged and no download mends it; says which file goes where.
    """
    try:
        train, test = (
            make(root=settings.root, train=is_train, download=settings.download) for is_train in (True, False)
        )
    except DAMAGES as error:
        raise download_failed(settings, files, error) from error
    return train, test


def download_failed(settings: DatasetSettings, files: Sequence[str], error: Exception) -> InputError:
    """The sentence that says which file, as published and relative to root, goes where."""
    tried, then = "dataset.download is false", "set dataset.download to true"
    if settings.download:
        tried, then = "the download failed", "run this again"
    cause = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    places = ", ".join(str(Path(settings.root) / file) for file in files)
    return InputError(
        f"data set {settings.name!r}: files are missing or damaged, and {tried} ({cause}); put the published "
        f"files here, remove leftovers of an earlier try, and {then}, which unpacks them: {places}."
    )


def mnist(settings: DatasetSettings) -> ImageSet:
    """70,000 handwritten digits, 28 x 28 grey (LeCun et al. 1998)."""
    from torchvision.datasets import MNIST

    return _like_mnist(settings, MNIST, DIGITS)


def fashion_mnist(settings: DatasetSettings) -> ImageSet:
    """70,000 articles of clothing, 28 x 28 grey (Xiao et al. 2017)."""
    from torchvision.datasets import FashionMNIST

    return _like_mnist(settings, FashionMNIST, class_names.FASHION_MNIST)


def kmnist(settings: DatasetSettings) -> ImageSet:
    """70,000 cursive Japanese characters, 28 x 28 grey (Clanuwat et al. 2018)."""
    from torchvision.datasets import KMNIST

    return _like_mnist(settings, KMNIST, class_names.KMNIST)


def _like_mnist(settings: DatasetSettings, make: Make, names: Sequence[str]) -> ImageSet:
    files = [f"{make.__name__}/raw/{file}" for file in _IDX]
    train, test = both_parts(settings, make, files)
    return _joined((train.data, test.data), (train.targets, test.targets), names)


def emnist_letters(settings: DatasetSettings) -> ImageSet:
    """145,600 handwritten letters, upper and lower case in one class, 28 x 28 grey (Cohen et al. 2017)."""
    from torchvision.datasets import EMNIST

    make = functools.partial(EMNIST, split="letters")
    train, test = both_parts(settings, make, ["EMNIST/raw/gzip.zip"])
    # Published with rows and columns exchanged, and with classes 1..26.
    images = [part.data.transpose(1, 2) for part in (train, test)]
    return _joined(images, [part.targets - 1 for part in (train, test)], LETTERS)


def svhn(settings: DatasetSettings) -> ImageSet:
    """99,289 house-number digits, 32 x 32 colour (Netzer et al. 2011), without the `extra` images."""
    from torchvision.datasets import SVHN

    train, test = both_parts(settings, _by_split(SVHN), ["train_32x32.mat", "test_32x32.mat"])
    images = [part.data.transpose(0, 2, 3, 1) for part in (train, test)]
    return _joined(images, [part.labels for part in (train, test)], DIGITS)


def cifar10(settings: DatasetSettings) -> ImageSet:
    """60,000 photographs of animals and vehicles, 32 x 32 colour (Krizhevsky 2009)."""
    return _cifar(settings, CIFAR_FILES[:1])


def cifar100(settings: DatasetSettings) -> ImageSet:
    """60,000 photographs of 100 classes, 32 x 32 colour (Krizhevsky 2009)."""
    return _cifar(settings, CIFAR_FILES[1:], is_fine=True)


def cifar10_and_100(settings: DatasetSettings) -> ImageSet:
    """CIFAR-10 as classes 0..9 and CIFAR-100 as classes 10..109, for CIFAR+10 and CIFAR+50."""
    ten, hundred = (_cifar(settings, CIFAR_FILES, is_fine=is_fine) for is_fine in (False, True))
    if ten.parts is None or hundred.parts is None:
        raise TypeError("both sets have official parts")
    return ImageSet(
        np.concatenate([ten.images, hundred.images]),
        np.concatenate([ten.targets, hundred.targets + len(ten.class_names)]),
        ten.class_names + hundred.class_names,
        np.concatenate([ten.parts, hundred.parts]),
    )


def _cifar(settings: DatasetSettings, files: Sequence[str], *, is_fine: bool = False) -> ImageSet:
    """CIFAR-10, or CIFAR-100 with its fine classes."""
    from torchvision.datasets import CIFAR10, CIFAR100

    train, test = both_parts(settings, CIFAR100 if is_fine else CIFAR10, files)
    return _joined((train.data, test.data), (train.targets, test.targets), train.classes)


def _by_split(make: Make) -> Make:
    """`make` that takes train=True as split="train", train=False as split="test"."""

    def made(*, root: str, train: bool, download: bool) -> Any:
        return make(root=root, split="train" if train else "test", download=download)

    return made


def _joined(images: Sequence[Any], targets: Sequence[Any], names: Sequence[str]) -> ImageSet:
    """Training images, then test images, each (N, H, W[, C]) uint8."""
    pixels: NDArray[np.uint8] = np.concatenate([np.asarray(part) for part in images])
    return ImageSet(
        pixels[..., None] if pixels.ndim == 3 else pixels,
        np.concatenate([np.asarray(part, dtype=np.int64) for part in targets]),
        tuple(names),
        np.repeat(["train", "test"], [len(part) for part in images]),
    )
