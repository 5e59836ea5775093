"""Files of settings that are chosen by name: presets/NAME.yaml and sweeps/NAME.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from osr.errors import InputError
from osr.settings.guesses import did_you_mean
from osr.settings.reading import read_yaml
from pipeline.workspace.shipped import in_own_project, shipped_in


def names_in(folder: Path) -> list[str]:
    """The names there are, in alphabetical order."""
    return sorted(_paths(folder))


def _paths(folder: Path) -> dict[str, Path]:
    """The file of each name; a project of `osr init` has those that osr brings beside its own."""
    brought = shipped_in(folder.as_posix()) if in_own_project() else []
    return {path.stem: path for path in (*brought, *folder.glob("*.yaml")) if path.suffix == ".yaml"}


def list_of(folder: Path) -> str:
    """A line per name, with the comment in the first line of its file.

    Raises:
        InputError: there is no name.
    """
    if not names_in(folder):
        raise InputError(f"{folder}/ holds no NAME.yaml here: go into a project, or a clone.")
    return "".join(f"{name}: {_purpose(folder, name)}\n" for name in names_in(folder))


def read_named(folder: Path, name: str, *, kind: str) -> tuple[Path, Any]:
    """The file of a name, and what it holds.

    Args:
        folder: where the files stand.
        name: without .yaml.
        kind: what such a file is called in the error.

    Raises:
        InputError: no such file.
    """
    names = names_in(folder)
    if name not in names:
        hint = did_you_mean(name, names) or f"; there are: {', '.join(names)}."
        raise InputError(f"There is no {kind} {name!r}{hint}")
    path = _paths(folder)[name]
    return path, read_yaml(path)


def _purpose(folder: Path, name: str) -> str:
    first = _paths(folder)[name].read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""
