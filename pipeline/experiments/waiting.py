"""Experiments without test metrics that need not be queued again: they run here, or wait in DVC's queue."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from osr.errors import InputError
from osr.params import check_params, flatten
from osr.settings.reading import parse_yaml
from osr.settings.sentences import listed
from pipeline.tracking.results import Result, Stored
from pipeline.workspace.git import git
from pipeline.workspace.stages import PARAMS

if TYPE_CHECKING:
    from dvc_task.proc import ProcessInfo

_QUEUE = Path(".dvc/tmp/exps/celery")
_SHOWN = 3  # names


def waiting(root: Path, stored: Stored) -> list[Result]:
    """What runs on this machine, and what waits in DVC's queue of the workspace.

    Between two stages a row is FINISHED, so DVC is asked for its experiments. Of a row of another machine
    that is RUNNING nobody here can tell whether somebody still works on it.
    """
    here = [result for result in stored.going if result.host == platform.node()]
    named = [result.name for result in (*stored.done, *here)]
    return [*here, *(one for one in _of_dvc(root) if not any(f"({one.name})" in name for name in named))]


def told(names: Sequence[str]) -> str:
    """Which experiments are left out as they run or wait."""
    which = "1 experiment runs, or waits" if len(names) == 1 else f"{len(names)} experiments run, or wait"
    return f"{which} in DVC's queue ({listed(names, _SHOWN)}; `dvc queue status`)"


def _of_dvc(root: Path) -> list[Result]:
    """The experiments that DVC has queued, and those whose process is alive."""
    if not (root / _QUEUE).is_dir():
        return []
    from dvc.repo import Repo  # takes half a second

    with Repo(str(root)) as repo:
        queue = repo.experiments.celery_queue
        active = [entry for entry in queue.iter_active() if not _is_over(queue.proc.get(entry.stash_rev))]
        entries = [*queue.iter_queued(), *active]
    files = [(entry.name, git("-C", str(root), "show", f"{entry.stash_rev}:./{PARAMS}")) for entry in entries]
    read = [(name, _params(file)) for name, file in files if file is not None]
    return [Result(str(name), 0, params, {}) for name, params in read if params]


def _is_over(process: ProcessInfo | None) -> bool:
    """Whether the process of an experiment has ended, also where DVC's worker died and nobody noted it."""
    if process is None:
        return False  # it is about to begin
    return process.returncode is not None or not psutil.pid_exists(process.pid)


def _params(file: str) -> dict[str, str]:
    """As a row holds them; none where this version refuses the file, whose experiment will fail."""
    try:
        params = check_params(parse_yaml(file), source=str(PARAMS))
    except (ValueError, InputError):
        return {}
    return {key: str(value) for key, value in flatten(params).items()}
