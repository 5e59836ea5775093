"""Which image files a data set has: class sub-folders, or the lines of a CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.data.images import numbered
from osr.data.settings import CsvSettings, DatasetSettings
from osr.errors import InputError
from osr.image_files import SUFFIXES
from osr.outputs import IntArray
from osr.splits import PARTS

NONE, AUTO = "none", "auto"


@dataclass(frozen=True)
class Listing:
    """The files of a data set before any is opened.

    Args:
        root: folder that `names` are relative to.
        names: (N,) text, a path each.
        targets: (N,) int64, class id of each file.
        class_names: the name of each class id.
        parts: (N,) text, train, val or test; None where none is published.
        groups: (N,) int64; None where every image stands for itself.
    """

    root: Path
    names: NDArray[np.str_]
    targets: IntArray
    class_names: tuple[str, ...]
    parts: NDArray[np.str_] | None = None
    groups: IntArray | None = None

    @classmethod
    def make(
        cls,
        root: Path,
        names: Sequence[str],
        labels: Sequence[str],
        parts: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
    ) -> Listing:
        """The classes are the labels that occur, sorted; equal text in `groups` is one group."""
        class_names, targets = np.unique(np.array(labels), return_inverse=True)
        return cls(
            root,
            np.array(names),
            targets.astype(np.int64),
            tuple(map(str, class_names)),
            None if parts is None else np.array(parts),
            None if groups is None else numbered(np.array(groups)),
        )

    def renamed(self, class_names: tuple[str, ...]) -> Listing:
        """Other names of the same classes."""
        return replace(self, class_names=class_names)


def list_folder(settings: DatasetSettings) -> Listing:
    """Images below the class sub-folders of `dataset.folder`; folders train, val and test may stand above.

    Raises:
        InputError: the folder is missing or holds no image, or a link leads out of it or to a folder.
    """
    root = Path(settings.root)
    top = root / settings.folder
    if not top.is_dir():
        raise InputError(f"dataset.folder: {top} is no folder; put your class sub-folders there.")
    has_parts = {path.name for path in _folders(top)} <= set(PARTS)
    names, labels, parts = [], [], []
    for above in _folders(top) if has_parts else [top]:
        for of_class in _folders(above):
            for file in _files(of_class, top):
                if file.suffix.lower() in SUFFIXES:
                    names.append(str(file.relative_to(root)))
                    labels.append(of_class.name)
                    parts.append(above.name)
    if not names:
        raise InputError(
            f"dataset.folder: {top} has no class sub-folder with images, whose names end in one of "
            f"{', '.join(SUFFIXES)}."
        )
    return Listing.make(root, names, labels, parts if has_parts else None)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path, top: Path) -> Iterator[Path]:
    """Every file below `folder` in alphabetical order; hidden ones are passed over."""
    if folder.is_symlink():
        _check_link(folder, top)
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            _check_link(path, top)
        if entry.is_dir():
            yield from _files(path, top)
        else:
            yield path


def _check_link(link: Path, top: Path) -> None:
    """Refuse a link to a folder, which may be a loop, out of the data set, or to nothing."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{link} is a link that leads nowhere or in a circle; remove it.") from error
    if target.is_dir():
        raise InputError(f"{link} is a link to a folder, which may be a loop; put the folder itself there.")
    if not target.is_relative_to(top.resolve()):
        raise InputError(f"{link} is a link out of {top}; put the file itself there.")


def list_csv(settings: DatasetSettings) -> Listing:
    """The images that the lines of `dataset.csv.file` name, relative to the folder it lies in.

    Raises:
        InputError: the file or a column is missing, or a path leads out of `dataset.root`.
    """
    root, names = Path(settings.root), settings.csv
    path = root / names.file
    if not path.is_file():
        raise InputError(f"dataset.csv.file: {path} is missing; put your CSV there, or change dataset.root.")
    columns = _read_columns(path, names)
    inside = os.path.realpath(root)
    base = os.path.realpath(path.parent)
    found = []
    for line, name in enumerate(columns["path"], start=2):
        full = os.path.realpath(os.path.join(base, name))  # noqa: PTH118, of a million lines
        if not full.startswith(inside + os.sep):
            raise InputError(f"{path}, line {line}: {name!r} lies outside of dataset.root, {root}.")
        found.append(os.path.relpath(full, inside))
    return Listing.make(root, found, columns["label"], columns.get("part"), columns.get("group"))


def _read_columns(path: Path, names: CsvSettings) -> dict[str, list[str]]:
    """The columns path and label, and part and group if there are any, by these words."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            wanted = _wanted(path, names, reader.fieldnames or ())
            columns: dict[str, list[Any]] = {key: [] for key in wanted}
            for line in reader:
                for key, name in wanted.items():
                    columns[key].append(line[name])
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"dataset.csv.file: {path} must be a CSV in UTF-8 ({error}).") from error
    for key, values in columns.items():
        if None in values or "" in values:
            number = next(row for row, value in enumerate(values) if not value)
            raise InputError(f"{path}, line {number + 2}: the column {wanted[key]!r} is empty.")
    if not columns["path"]:
        raise InputError(f"dataset.csv.file: {path} names no image.")
    return columns


def _wanted(path: Path, names: CsvSettings, available: Sequence[str]) -> dict[str, str]:
    wanted = {}
    for key, name in names.model_dump(exclude={"file"}).items():
        if name == NONE or (name == AUTO and key not in available):
            continue
        wanted[key] = key if name == AUTO else name
        if wanted[key] not in available:
            raise InputError(
                f"dataset.csv.{key}: {path} has no column {wanted[key]!r}; it has: {', '.join(available)}."
            )
    return wanted
