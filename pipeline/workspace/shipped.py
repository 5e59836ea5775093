"""Files that come with osr and stand in no package: settings, stages, presets; in a clone or installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, PackagePath, files
from pathlib import Path

from osr.errors import InputError
from osr.version import VERSION
from pipeline.workspace.stages import VERSION_FILE

CLONE = Path(__file__).parents[2]
_DATA = "share/osr/"  # where pyproject.toml puts them below the environment


def shipped(name: str) -> Path:
    """The file `name`, relative to the root of a clone.

    Raises:
        InputError: neither the clone nor the installed package has it.
    """
    if (CLONE / name).is_file() and (CLONE / "pyproject.toml").is_file():
        return CLONE / name
    for file in _installed():
        if file.as_posix().endswith(f"{_DATA}{name}") and Path(str(file.locate())).is_file():
            return Path(str(file.locate()))
    raise InputError(f"{name} is missing from the installed osr {VERSION}: install it again.")


def shipped_in(folder: str) -> list[Path]:
    """The files of a folder, in alphabetical order."""
    if (CLONE / "pyproject.toml").is_file():
        return sorted((CLONE / folder).glob("*"))
    inside = [Path(str(file.locate())) for file in _installed() if f"{_DATA}{folder}/" in file.as_posix()]
    return sorted(path for path in inside if path.parent.name == Path(folder).name)


def in_own_project() -> bool:
    """Whether the working directory is a project of `osr init`, which has no code of osr beside it."""
    return VERSION_FILE.is_file()


def version_text() -> str:
    """What the file that stands for the code in such a project must hold."""
    return f"osr {VERSION}\n"


def check_version() -> None:
    """In a project of `osr init`, refuse to run another version than its file names: results would be mixed.

    Raises:
        InputError: the installed version is another one.
    """
    if not in_own_project():
        return
    held = VERSION_FILE.read_text(encoding="utf-8")
    if held != version_text():
        raise InputError(
            f"{VERSION_FILE} names {held.strip()!r}, but osr {VERSION} is installed: `osr run` writes that "
            "version there, and runs every stage again."
        )


def _installed() -> list[PackagePath]:
    try:
        return list(files("osr") or ())
    except PackageNotFoundError:
        return []
