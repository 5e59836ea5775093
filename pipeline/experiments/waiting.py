"""Experiments without test metrics that need not be queued again: they run here, or wait in DVC's queue."""

from __future__ import annotations

import platform
from pathlib import Path

from osr.errors import InputError
from osr.params import check_params, flatten
from osr.settings.reading import parse_yaml
from pipeline.tracking.results import Result, Stored
from pipeline.workspace.git import git
from pipeline.workspace.stages import PARAMS

_QUEUE = "refs/exps/celery/stash"  # DVC keeps each experiment that waits as an entry of this stash


def waiting(root: Path, stored: Stored) -> list[Result]:
    """What runs on this machine, and what waits in DVC's queue of the workspace.

    Of another machine nobody here can tell whether it still works on a row that is RUNNING.
    """
    return [*(result for result in stored.going if result.host == platform.node()), *_queued(root)]


def told(number: int) -> str:
    """How many experiments are left out as they run or wait."""
    run = "1 more runs here or waits" if number == 1 else f"{number} more run here or wait"
    return f"{run} in DVC's queue (`dvc queue status`)"


def _queued(root: Path) -> list[Result]:
    entries = git("-C", str(root), "reflog", "show", "--format=%H", _QUEUE) or ""
    files = [git("-C", str(root), "show", f"{entry}:./{PARAMS}") for entry in entries.split()]
    return [Result("queued", 0, found, {}) for file in files if file is not None and (found := _params(file))]


def _params(file: str) -> dict[str, str]:
    """As a row holds them; none where this version refuses the file, whose experiment will fail."""
    try:
        params = check_params(parse_yaml(file), source=str(PARAMS))
    except (ValueError, InputError):
        return {}
    return {key: str(value) for key, value in flatten(params).items()}
