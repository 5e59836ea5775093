"""Which image files a data set has: class sub-folders, or the lines of a CSV."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.data.image_files import SUFFIXES
from osr.data.images import classes_of, numbered
from osr.data.settings import CsvSettings, DatasetSettings
from osr.data.walking import PassedOver, images_below, is_hidden
from osr.errors import InputError
from osr.outputs import IntArray
from osr.splits.split import PARTS

logger = logging.getLogger("osr")

NONE, AUTO = "none", "auto"
AUTOMATIC = {"part": ("part", "split"), "group": ("group",)}  # columns that a CSV need not have
SHOWN = 5
ALMOST_PARTS = ("valid", "validation", "training", "testing")


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
        passed_over: what lies beside them and is no image, by the ending of its name.
        empty: folders of classes that hold no image.
    """

    root: Path
    names: NDArray[np.str_]
    targets: IntArray
    class_names: tuple[str, ...]
    parts: NDArray[np.str_] | None = None
    groups: IntArray | None = None
    passed_over: tuple[tuple[str, int], ...] = ()
    empty: tuple[str, ...] = ()

    @classmethod
    def make(
        cls,
        root: Path,
        names: Sequence[str],
        labels: Sequence[str],
        parts: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
    ) -> Listing:
        """The classes are the labels that occur, in order; equal text in `groups` is one group."""
        targets, class_names = classes_of(np.array(labels))
        return cls(
            root,
            np.array(names),
            targets,
            class_names,
            None if parts is None else np.array(parts),
            None if groups is None else numbered(np.array(groups)),
        )

    def select(self, rows: IntArray) -> Listing:
        """Some of the files; the classes keep their numbers."""
        return replace(
            self,
            names=self.names[rows],
            targets=self.targets[rows],
            parts=None if self.parts is None else self.parts[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

    def renamed(self, class_names: tuple[str, ...]) -> Listing:
        """Other names of the same classes."""
        return replace(self, class_names=class_names)


def list_folder(settings: DatasetSettings) -> Listing:
    """Images below the class sub-folders of `dataset.folder`; folders train, val and test may stand above.

    Raises:
        InputError: the folder is missing or outside of the root, no class has an image, parts and classes are
            mixed, or a link leads out of the folder or to a folder.
    """
    root = Path(settings.root)
    top = root / settings.folder
    if ".." in Path(settings.folder).parts or Path(settings.folder).is_absolute():
        raise InputError(f"dataset.folder: {top} must lie in dataset.root, {root}.")
    if not top.is_dir():
        raise InputError(f"dataset.folder: {top} is no folder; put your class sub-folders there.")
    has_parts, passed = _has_parts(top), PassedOver()
    names: list[str] = []
    labels: list[str] = []
    parts: list[str] = []
    held: dict[str, Path] = {}
    for above in _folders(top, top, passed) if has_parts else [top]:
        for of_class in _folders(above, top, passed):
            files = list(images_below(of_class, passed, lambda link: _check_link(link, top)))
            names += [str(file.relative_to(root)) for file in files]
            labels += [of_class.name] * len(files)
            parts += [above.name] * len(files)
            held[of_class.name] = of_class
    if not names:
        raise InputError(f"dataset.folder: {_nothing_in(top, passed)}")
    empty = tuple(name for name in held if name not in set(labels))
    if empty:
        logger.warning("dataset.folder: %s: no image in %s, which is no class.", top, ", ".join(empty))
    if passed.counts:
        logger.warning("dataset.folder: %s: %s.", top, passed.sentence)
    listing = Listing.make(root, names, labels, parts if has_parts else None)
    return replace(listing, passed_over=tuple(sorted(passed.counts.items())), empty=empty)


def _nothing_in(top: Path, passed: PassedOver) -> str:
    """What to say of a folder without class sub-folders of images."""
    if direct := passed.num_stray:
        return (
            f"images lie directly in {top} ({direct}), but it must hold a sub-folder for each class. "
            f"If {top.name} is one of the classes, name the folder above it."
        )
    told = f" ({passed.sentence})" if passed.counts else ""
    return (
        f"{top} has no sub-folder with images{told}; it must hold one for each class, with images whose "
        f"names end in {', '.join(SUFFIXES)}."
    )


def _has_parts(top: Path) -> bool:
    """Whether the folders in `top` are parts; a class may be called train, but not beside one called test."""
    names = {path.name for path in _folders(top, top)}
    if names <= set(PARTS):
        return True
    if "train" in names and len(names & {*PARTS, *ALMOST_PARTS}) > 1:
        shown = ", ".join(sorted(names, reverse=True)[:SHOWN])
        raise InputError(
            f"dataset.folder: {top} holds {shown}; it may hold train, val and test alone, or class "
            "sub-folders."
        )
    return False


def _folders(folder: Path, top: Path, passed: PassedOver | None = None) -> list[Path]:
    """The folders in `folder`, of which none may be a link; hidden ones and files are passed over."""
    folders = []
    for path in sorted(folder.iterdir()):
        if not is_hidden(path.name):
            if path.is_symlink() and not path.is_file():
                _check_link(path, top)
            if path.is_dir():
                folders.append(path)
                continue
        if passed is not None:
            passed.add(path, belongs_below=True)
    return folders


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
        if full != inside and not full.startswith(inside + os.sep):
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
                    if problem := _problem(key, line[name]):
                        raise InputError(f"{path}, line {reader.line_num}: the column {name!r} {problem}.")
                    columns[key].append(line[name])
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"dataset.csv.file: {path} must be a CSV in UTF-8 ({error}).") from error
    if not columns["path"]:
        raise InputError(f"dataset.csv.file: {path} names no image.")
    return columns


def _problem(key: str, value: str | None) -> str:
    """Why a cell cannot be what the column `key` must hold; empty if it can."""
    if not value or value.lower() == "nan":
        return "is empty" if not value else f"is {value!r}, which is no value"
    if key == "part" and value not in PARTS:
        return f"is {value!r}, but must be train, val or test"
    if key != "path" and value != value.strip():
        return f"is {value!r}, which begins or ends with a space"
    if key == "path" and "://" in value:
        return f"is {value!r}, an address; download the file and name it by its path"
    return "holds a zero byte" if "\0" in value else ""


def _wanted(path: Path, names: CsvSettings, available: Sequence[str]) -> dict[str, str]:
    wanted = {}
    for key, name in names.model_dump(exclude={"file"}).items():
        if name == AUTO:
            name = next((word for word in AUTOMATIC.get(key, (key,)) if word in available), NONE)
        if name == NONE and key in AUTOMATIC:
            continue
        if available.count(name) != 1:
            number = "two columns" if name in available else "no column"
            raise InputError(
                f"dataset.csv.{key}: {path} has {number} {name!r}; it has: {', '.join(map(repr, available))}."
            )
        wanted[key] = name
    return wanted
