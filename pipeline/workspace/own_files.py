"""What a dvc.yaml of the user's own must name, and what it must not: settings and files that are gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from osr.errors import InputError
from osr.settings.gone import GONE
from osr.settings.own_code import source_file
from osr.settings.reading import read_yaml
from pipeline.workspace.stages import DVC_FILE, PARAMS


def check_deps(stage: str, names: Iterable[str]) -> None:
    """Refuse to run a stage that would not run again when the user's code changes.

    Args:
        stage: as in dvc.yaml.
        names: detectors or a loss; those that are no `module:Class` of a file below are passed over.

    Raises:
        InputError: dvc.yaml is there, and the file of a class is none of the stage's deps.
    """
    for name in names:
        file = source_in_project(name)
        if file is not None and file.as_posix() in missing_deps(stage, [file]):
            raise InputError(
                f"dvc.yaml: the deps of stage {stage} lack {file}, where {name} stands, and DVC would not "
                f"see when it changes: add the line `- {file}` to them."
            )


def check_params_of_stages() -> None:
    """Refuse a dvc.yaml of an earlier version before its first stage: DVC would stop at the one it concerns.

    Raises:
        InputError: a stage lists a setting that is gone.
    """
    for name, key in _listed("params"):
        if key in GONE:
            raise InputError(
                f"{DVC_FILE}: the params of stage {name} have {key}, which {GONE[key].told}; take it out."
            )


def check_files_elsewhere() -> None:
    """Refuse to begin where photos or weights that stand outside of the project were moved.

    Raises:
        InputError: a stage's dep outside of the project is not there.
    """
    for name, dep in _listed("deps"):
        if (dep.startswith("..") or Path(dep).is_absolute()) and not Path(dep).exists():
            raise InputError(
                f"{dep}, which stage {name} reads, is not there any more: put it back, or write where it is "
                f"now into {PARAMS} (dataset.root, or model.backbone.weights) and {DVC_FILE} (deps)."
            )


def _listed(key: str) -> Iterator[tuple[str, str]]:
    """Each name that a stage of dvc.yaml lists under a key, and the stage; none without the file."""
    content = read_yaml(DVC_FILE) if DVC_FILE.is_file() else None
    stages = content.get("stages") if isinstance(content, dict) else None
    for stage, of_stage in stages.items() if isinstance(stages, dict) else ():
        listed = of_stage.get(key) if isinstance(of_stage, dict) else None
        for entry in listed if isinstance(listed, list) else ():
            yield str(stage), str(next(iter(entry), "")) if isinstance(entry, dict) else str(entry)


def source_in_project(name: str) -> Path | None:
    """The file that a class stands in, from the working directory; None where it is not below it."""
    file, here = source_file(name), Path.cwd().resolve()
    if file is None or not file.resolve().is_relative_to(here):
        return None
    return file.resolve().relative_to(here)


def missing_deps(stage: str, files: Iterable[Path]) -> list[str]:
    """Those of the files that are no deps of a stage and lie in none; none without dvc.yaml."""
    if not DVC_FILE.is_file():
        return []
    listed = [dep for name, dep in _listed("deps") if name == stage]
    if not listed:
        raise InputError(f"{DVC_FILE} has no stage {stage} with deps.")
    return [
        file.as_posix()
        for file in files
        if not any(PurePosixPath(file.as_posix()).is_relative_to(dep) for dep in listed)
    ]
