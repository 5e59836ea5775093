"""Files of settings that are chosen by name: presets/NAME.yaml and sweeps/NAME.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from osr.errors import InputError
from osr.params import read_yaml
from osr.settings.sentences import did_you_mean


def names_in(folder: Path) -> list[str]:
    """The names there are, in alphabetical order."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def list_of(folder: Path) -> str:
    """A line per name, with the comment in the first line of its file."""
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
        raise InputError(f"There is no {kind} {name!r} in {folder}/{hint}")
    path = folder / f"{name}.yaml"
    return path, read_yaml(path)


def _purpose(folder: Path, name: str) -> str:
    first = (folder / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""
