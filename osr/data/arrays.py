"""The user's own images in one .npz without pickles.

images: (N, H, W) or (N, H, W, 1 or 3) uint8; labels: (N,) whole numbers or text; part: (N,) the text train,
val or test; group: (N,); class_names: (K,) text. Whole-number labels are positions in class_names; without
class_names the classes are the labels that occur, in order.
"""

from __future__ import annotations

import difflib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.data.images import ImageSet, classes_of, numbered
from osr.data.npz_sizes import check_sizes
from osr.data.settings import ArraysSettings, DatasetSettings
from osr.errors import InputError
from osr.outputs import IntArray

NONE, AUTO = "none", "auto"
KEY = "dataset.arrays"
_DAMAGES = (  # zipfile, zlib and the parser of numpy's headers raise any of these
    ValueError, TypeError, OSError, EOFError, KeyError, AttributeError, RuntimeError,
    MemoryError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, SyntaxError,
)  # fmt: skip


def arrays(settings: DatasetSettings) -> ImageSet:
    """The images of `settings.arrays.file`, which lies in `settings.root`.

    Raises:
        InputError: the file or an array is missing, needs a pickle, or has another shape or type.
    """
    names = settings.arrays
    path = Path(settings.root) / names.file
    if not path.is_file():
        raise InputError(f"{KEY}.file: {path} is missing; put your .npz there, or change dataset.root.")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            wanted = _wanted(names, file.files)
            check_sizes(path, file.zip, wanted)
            read = _Arrays(path, {name: file[name] for name in wanted}, file.files)
    except _DAMAGES as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{KEY}.file: {path} must be a whole .npz of plain arrays, without pickled objects ({error})."
        ) from error
    return _image_set(names, read)


class _Arrays:
    """The arrays of one file by the settings that name them."""

    def __init__(self, path: Path, content: dict[str, NDArray[Any]], available: Sequence[str]) -> None:
        self.path, self.content, self.available = path, content, available

    def one(self, key: str, name: str) -> NDArray[Any]:
        """The array `name`; an error names the setting `key`."""
        if name not in self.content:
            guess = difflib.get_close_matches(name, self.available, n=1)
            hint = f"did you mean {guess[0]!r}?" if guess else f"it has: {', '.join(self.available)}."
            raise InputError(f"{KEY}.{key}: {self.path} has no array {name!r}; {hint}")
        return self.content[name]

    def optional(self, key: str, name: str) -> NDArray[Any] | None:
        """The array `name`; `auto` is the array called like the setting, if there is one."""
        if name == NONE or (name == AUTO and key not in self.content):
            return None
        return self.one(key, key if name == AUTO else name)


def _wanted(names: ArraysSettings, available: Sequence[str]) -> list[str]:
    """What of the file must be read: arrays that no setting names stay on disk."""
    given = {*names.model_dump(exclude={"file", "group"}).values(), *names.group}
    automatic = {key for key in ("part", "group", "class_names") if getattr(names, key) in (AUTO, (AUTO,))}
    return [name for name in available if name in given | automatic]


def _image_set(names: ArraysSettings, read: _Arrays) -> ImageSet:
    images, labels = _images(read, "images", names.images), read.one("labels", names.labels)
    part = read.optional("part", names.part)
    if names.test_images != NONE:
        if part is not None:
            raise InputError(
                f"{KEY}.part and {KEY}.test_images both say which images are the test; set one to none."
            )
        test_images = _images(read, "test_images", names.test_images)
        test_labels = read.one("test_labels", names.test_labels)
        if test_images.shape[1:] != images.shape[1:]:
            raise InputError(
                f"{KEY}.test_images: images of {test_images.shape[1:]} must have the shape of those to train "
                f"on, {images.shape[1:]}."
            )
        part = np.repeat(["train", "test"], [len(images), len(test_images)])
        images = np.concatenate([images, test_images])
        labels = np.concatenate([labels, test_labels])
    targets, class_names = _targets(labels, read.optional("class_names", names.class_names))
    return ImageSet(images, targets, class_names, _text(part), _groups(names, read))


def _images(read: _Arrays, key: str, name: str) -> NDArray[np.uint8]:
    """(N, H, W, C); uint8 and C are checked by `ImageSet`."""
    images = read.one(key, name)
    return images[..., None] if images.ndim == 3 else images


def _text(part: NDArray[Any] | None) -> NDArray[np.str_] | None:
    if part is not None and part.dtype.kind != "U":
        raise InputError(f"{KEY}.part must hold the text train, val or test, not {part.dtype}.")
    return part


def _groups(names: ArraysSettings, read: _Arrays) -> IntArray | None:
    if names.group == (AUTO,):
        group = read.optional("group", AUTO)
        return None if group is None else numbered(group)
    return numbered(*(read.one("group", name) for name in names.group)) if names.group else None


def _targets(labels: NDArray[Any], names: NDArray[Any] | None) -> tuple[IntArray, tuple[str, ...]]:
    """Class ids and class names."""
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise InputError(
            f"{KEY}.labels must be whole numbers or text of shape (N,), not {labels.dtype} {labels.shape}."
        )
    if names is None:
        return classes_of(labels)
    class_names = tuple(str(name) for name in names)
    values, inverse = np.unique(labels, return_inverse=True)
    if labels.dtype.kind != "U":
        return labels.astype(np.int64), class_names
    for value in values:
        if value not in class_names:
            raise InputError(f"{KEY}.labels: class {str(value)!r} is not among {KEY}.class_names.")
    ids = np.array([class_names.index(value) for value in values], dtype=np.int64)
    return ids[inverse], class_names
