"""Command run, which `mlflow run .` starts, too: the pipeline with DVC, and MLflow's own row complete."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from osr.errors import InputError
from pipeline.experiments.overrides import overridden, split_overrides
from pipeline.experiments.params_file import rewrite
from pipeline.experiments.preset import load_presets
from pipeline.experiments.programs import finished
from pipeline.report.outcome import outcome
from pipeline.tracking.stage_run import failure, is_off
from pipeline.tracking.store import connect, store_may_fail
from pipeline.tracking.sync import sync
from pipeline.workspace.git import git
from pipeline.workspace.lock import recorded_stages
from pipeline.workspace.own_files import check_files_elsewhere, check_params_of_stages
from pipeline.workspace.place import workspace_root
from pipeline.workspace.repository import check_repository
from pipeline.workspace.shipped import in_own_project, version_text
from pipeline.workspace.stages import PARAMS, STAGES, VERSION_FILE

LAUNCH = "osr.launch"
LOCK = Path(".osr/run.lock")

logger = logging.getLogger("osr.tracking")


def run(options: argparse.Namespace) -> int:
    """Run what the options ask for; the status is DVC's, or 1 when MLflow's row stays incomplete.

    Raises:
        InputError: a setting or preset is bad, or another run is at work here; the row of `mlflow run` then
            says so.
    """
    try:
        with alone():
            return _run(options)
    except InputError as error:
        _mark_failed(failure(error))
        raise


@contextmanager
def alone() -> Iterator[None]:
    """Hold the project: another run would change the settings under this one.

    Raises:
        InputError: another process holds it.
    """
    LOCK.parent.mkdir(exist_ok=True)
    lock = FileLock(LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            "Another `osr run` or `osr fit` is at work in this project: wait until it has ended, or work in "
            "another clone."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _run(options: argparse.Namespace) -> int:
    names = [name for text in options.preset for name in text.split()]
    changes = load_presets(names) if names else {}
    texts = [part for text in options.overrides for part in split_overrides(text)]
    settings = overridden([*texts, *options.settings], changes)
    check_repository()
    check_params_of_stages()
    check_files_elsewhere()
    is_experiment = bool(names or texts or options.settings)
    before = PARAMS.read_bytes() if PARAMS.is_file() else b""
    if is_experiment:
        write_experiment(settings)
        if lacking := _without_results():
            logger.info("no results yet of %s: DVC warns of each that it has no hash", ", ".join(lacking))
    renew_version()
    drawn = _time_of(STAGES["plot"].metrics)
    command = dvc_command(options.stage, force=options.force, is_experiment=is_experiment)
    status = launch(command, completes_row=options.sync)
    if status != 0 and is_experiment and PARAMS.read_bytes() != before:
        logger.info("%s keeps the new settings; `git diff %s` shows them.", PARAMS, PARAMS)
    told = _time_of(STAGES["plot"].metrics) != drawn  # by stage plot
    if status == 0 and options.stage in (None, "plot") and not (told or options.sync):
        sys.stdout.write(outcome())
    return status


def renew_version() -> None:
    """In a project of `osr init`, name the installed version where stages look: a new one runs them all."""
    if in_own_project() and (held := VERSION_FILE.read_text(encoding="utf-8")) != version_text():
        logger.info("%s -> %s: every stage runs again", held.strip(), version_text().strip())
        VERSION_FILE.write_text(version_text(), encoding="utf-8")


def _without_results() -> list[str]:
    """Stages that dvc.lock does not name."""
    recorded = recorded_stages()
    return [name for name in STAGES if name not in recorded]


def _time_of(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def write_experiment(settings: Mapping[str, Any]) -> None:
    """Put the settings of an experiment into params.yaml, as `dvc exp run -S` does, and tell what changes.

    DVC would write lists anew, an entry per line, and move the comments beside them.

    Raises:
        InputError: no commit, on which DVC could found an experiment.
    """
    if git("rev-parse", "HEAD") is None:
        raise InputError(
            "An experiment (-S, --preset) needs git and a commit: type `git init && git add --all && git "
            f"commit --message start`, or write the settings into {PARAMS} and type `osr run` alone."
        )
    for line in rewrite(settings):
        logger.info("%s: %s", PARAMS, line)


def dvc_command(stage: str | None = None, *, force: bool = False, is_experiment: bool = False) -> list[str]:
    """`dvc repro`, or `dvc exp run` for an experiment; only up to `stage` if there is one."""
    rest = ["--force"] * force + ([] if stage is None else [stage])
    return ["dvc", *(["exp", "run"] if is_experiment else ["repro"]), *rest]


def launch(command: Sequence[str], *, completes_row: bool) -> int:
    """Run DVC with this environment's Python; the status is DVC's, or 1 when the row stays incomplete."""
    logger.info("%s", shlex.join(command))
    # The stages start as `python -m …`: it must be the Python of this environment.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    env = {**os.environ, "PATH": path}
    status = finished([sys.executable, "-m", *command], env)
    if status == 0:
        return 0 if not completes_row or sync() else 1
    reason = f"DVC ended with exit status {status}"
    logger.error("%s", reason)
    _mark_failed(f"FAILED: {reason}")
    return status


def _mark_failed(reason: str) -> None:
    """Set MLflow's own row to FAILED, and say why: a stage that ended well before left it FINISHED."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if run_id is None or is_off():
        return
    with store_may_fail("the row does not say that the pipeline failed."):
        client = connect(workspace_root()).client
        client.set_tag(run_id, LAUNCH, reason)
        if client.get_run(run_id).info.status in ("RUNNING", "FINISHED"):
            client.set_terminated(run_id, "FAILED")
