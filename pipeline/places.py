"""What commands read and where they write, checked before any work: nothing is replaced that is needed.

The types of arguments in `pipeline.arguments` say what is read and what is made.
"""

from __future__ import annotations

import argparse
import glob
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from osr.data.image_files import SUFFIXES
from osr.errors import InputError
from osr.inference import folder as exported
from pipeline.arguments import (
    exported_folder,
    growing_folder,
    images_folder,
    new_file,
    new_folder,
    new_picture,
    new_stem,
    path,
    source,
    verdicts,
)
from pipeline.workspace.stages import DVC_FILE, LOCK, PARAMS, STAGES, VERSION_FILE

PICTURES = (".png", ".pdf", ".svg")
BOARD = (".csv", ".md", ".png")  # what `osr leaderboard` makes of one name
_READ = (path, source, verdicts, images_folder, exported_folder)
_PROJECT = (PARAMS, DVC_FILE, LOCK, VERSION_FILE, Path("mlflow.db"))


def check_places(actions: Iterable[argparse.Action], options: argparse.Namespace) -> None:
    """Refuse places where nobody can write, and files that must stay.

    Args:
        actions: of a command.
        options: what they became.

    Raises:
        InputError: there is no such exported folder, detector in it, folder of images, or file to judge or of
            verdicts; an output is no place for a file or folder, two are one, or one is also read.
    """
    given = [(action, getattr(options, action.dest, None)) for action in actions]
    read = [Path(one) for action, value in given if action.type in _READ for one in _each(value)]
    for action, value in given:
        for one in _each(value):
            if action.type is exported_folder:
                exported.check_is_folder(Path(one), getattr(options, "detector", None))
            if action.type in _GIVEN:
                _GIVEN[action.type](one)
    made = [(action, value) for action, value in given if action.type in _CHECKS and value is not None]
    files = [(_title(action), file) for action, value in made for file in _CHECKS[action.type](action, value)]
    for action, value in made:
        if action.type is new_folder:
            exported.refuse_existing(value)
        if action.type in (new_folder, growing_folder):
            _check_folder(value, read)
        if action.type is growing_folder:
            exported.refuse_inside(value / "part")
    for title, file in files:
        _check_file(title, file, read)
    _check_apart(files)


def check_verdicts(file: Path) -> None:
    """Raise `InputError` where a file of verdicts is not there."""
    if not file.is_file():
        raise InputError(f"{file} is missing: `osr predict --output {file}` makes such a file.")


def _check_source(name: str) -> None:
    """Refuse what is not there, where it is no pattern and not the list on standard input."""
    if not (name == "-" or glob.has_magic(name) or os.path.lexists(name)):
        raise InputError(f"{name} does not exist.")


def _check_images(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder with images of known classes.")


_GIVEN: Mapping[Any, Callable[[Any], None]] = {
    source: _check_source,
    verdicts: check_verdicts,
    images_folder: _check_images,
}


def board_files(stem: Path) -> list[Path]:
    """What `osr leaderboard --out stem` writes."""
    return [stem.with_name(f"{stem.name}{ending}") for ending in BOARD]


def form_of(output: Path | None, asked: str | None, endings: Mapping[str, str], default: str) -> str:
    """The format of an output: what is asked for, else what its ending means, else the default.

    Args:
        output: None means standard output.
        asked: with --format.
        endings: of file names -> formats.
        default: where nothing says it.

    Raises:
        InputError: the ending means another format than the one that is asked for, or none at all.
    """
    meant = None if output is None else endings.get(output.suffix.lower())
    if asked is not None and meant not in (None, asked):
        raise InputError(
            f"--format {asked} does not go with {output}, whose ending means {meant}: leave --format away, or"
            " choose another name."
        )
    if output is not None and output.suffix and asked is None and meant is None:
        raise InputError(
            f"{output} must end in {', '.join(endings)}, or --format must say what it is to hold."
        )
    return asked or meant or default


def _title(action: argparse.Action) -> str:
    return action.option_strings[0] if action.option_strings else str(action.metavar)


def _each(value: object) -> Iterator[str | Path]:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str | Path):
            yield one


def _file(_action: argparse.Action, value: Path) -> list[Path]:
    if value.suffix.lower() in SUFFIXES:
        raise InputError(f"{value} has the name of an image, and would replace it: choose another.")
    return [value]


def _picture(action: argparse.Action, value: Path) -> list[Path]:
    if value.suffix not in PICTURES:
        raise InputError(f"{_title(action)} {value} must end in {', '.join(PICTURES)}.")
    return [value]


def _stem(action: argparse.Action, value: Path) -> list[Path]:
    if value.exists() or not value.name:
        raise InputError(
            f"{_title(action)} {value} must be a new name, which {', '.join(BOARD)} are put behind."
        )
    if value.parent.exists():
        return board_files(value)
    exported.refuse_inside(value)
    _refuse_project(value)
    _check_ancestor(value)
    return []


def _folder(_action: argparse.Action, _value: Path) -> list[Path]:
    return []


_CHECKS: Mapping[Any, Callable[[argparse.Action, Path], list[Path]]] = {
    new_file: _file,
    new_picture: _picture,
    new_stem: _stem,
    new_folder: _folder,
    growing_folder: _folder,
}


def _check_folder(folder: Path, read: Iterable[Path]) -> None:
    exported.refuse_inside(folder)
    _refuse_project(folder)
    for place in read:
        if place.is_dir() and folder.resolve().is_relative_to(place.resolve()):
            raise InputError(f"{folder} lies in {place}, which is read: choose a place beside it.")
    _check_ancestor(folder)


def _check_ancestor(made: Path) -> None:
    """Refuse a place below a file, or in a folder where nobody may write."""
    above = next(parent for parent in made.absolute().parents if parent.exists())
    if not above.is_dir():
        raise InputError(f"{made} cannot be written: {above} is no folder.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{made} cannot be written: nobody may write into {above}.")


def _check_file(title: str, file: Path, read: Iterable[Path]) -> None:
    try:
        if file.exists() and not file.is_file():
            raise InputError(f"{file} is a folder or a device, but must be a file to write.")
        exported.refuse_inside(file)
        _refuse_project(file)
        for place in read:
            if file.exists() and place.exists() and file.samefile(place):
                raise InputError(f"{title} {file} is also read, and would be replaced: choose another name.")
        tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}").close()
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}.") from error


def _refuse_project(place: Path) -> None:
    """Refuse settings of a project, and what its stages write: DVC would call the results changed."""
    whole = place.resolve()
    for root in whole.parents:
        if not (root / DVC_FILE).is_file():
            continue
        inside = whole.relative_to(root)
        outs = [out for stage in STAGES.values() for out in stage.outs]
        if inside in _PROJECT or any(inside == out or inside.is_relative_to(out) for out in outs):
            raise InputError(
                f"{place} belongs to the project in {root}, whose stages write it: choose another."
            )


def _check_apart(files: Sequence[tuple[str, Path]]) -> None:
    held = dict[Path, str]()
    for title, file in files:
        if (other := held.setdefault(file.resolve(), title)) != title:
            raise InputError(f"{other} and {title} are both {file}, but must be two files.")
