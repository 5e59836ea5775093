"""One experiment of a sweep as a job of a scheduler: a clone of its own, in which it goes on after a kill.

The clone lies in the job's folder, which all machines see. There the experiment is `dvc repro`, which goes on
in its row of MLflow, so that a job that is killed and begun again makes one row.
"""

from __future__ import annotations

import configparser
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from osr.errors import InputError
from pipeline.experiments.params_file import apply
from pipeline.tracking.store import SAME_ROW
from pipeline.workspace.files import read_json, write_json
from pipeline.workspace.logs import start_logging
from pipeline.workspace.stages import PARAMS

JOB, DONE, LOCK, CLONE = "job.json", "done.json", "lock", "clone"
RUN_LOCK = Path(".osr/run.lock")
STORE = "MLFLOW_TRACKING_URI"
_FOREIGN = ("MLFLOW_RUN_ID", "DVC_ROOT", "DVC_EXP_NAME")
_LOCAL_CONFIG = Path(".dvc/config.local")
_LEAVE_S = 100.0
_POLL_S = 0.2

logger = logging.getLogger("osr.sweep")


def write_job(folder: Path, settings: Mapping[str, Any], *, home: Path, commit: str, cache: str) -> None:
    """Say what a job is to do, anew also where it was done before.

    Args:
        folder: of the job, on a disk that all machines see.
        settings: what the experiment changes in params.yaml.
        home: the project, which is cloned.
        commit: of it.
        cache: DVC's, which all jobs share.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    content = {"settings": settings, "home": str(home), "commit": commit, "cache": cache}
    write_json(folder / JOB, content)


def is_at_work(folder: Path) -> bool:
    """Whether a process works in the job's folder."""
    if not (folder / JOB).is_file():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True


class SweepJob:
    """What submitit runs: `work`, and before the time limit it puts the job back into the queue."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A process does not travel."""
        return {"_child": None}

    def __call__(self, folder: str) -> None:
        """Do the job in a folder.

        Raises:
            InputError: another process does it, or the run failed.
        """
        self.work(Path(folder))

    def checkpoint(self, folder: str) -> Any:
        """End the run, whose row is KILLED then, and ask to be begun again."""
        from submitit.helpers import DelayedSubmission

        self.stop()
        return DelayedSubmission(self, folder)

    def work(self, folder: Path) -> None:
        """See `__call__`."""
        job = read_json(folder / JOB)
        if not os.environ.get(STORE):
            raise InputError(f"{STORE} must name a server that all jobs reach.")
        try:
            with FileLock(folder / LOCK, timeout=0):
                if not (folder / DONE).is_file():
                    self._run(folder, job)
                    write_json(folder / DONE, {"commit": job["commit"]})
                shutil.rmtree(folder / CLONE, ignore_errors=True)
        except Timeout:
            raise InputError(f"{folder}: another process does this job.") from None

    def _run(self, folder: Path, job: Mapping[str, Any]) -> None:
        clone = folder / CLONE
        if not clone.is_dir():
            _make_clone(clone, job)
        apply(job["settings"], clone / PARAMS)
        (clone / RUN_LOCK).parent.mkdir(exist_ok=True)
        left_running = FileLock(clone / RUN_LOCK)  # by a killed job: it comes to its end first
        left_running.acquire()
        left_running.release()
        env = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
        env |= {"PYTHONPATH": str(clone), SAME_ROW: "1"}
        command = [sys.executable, "-m", "pipeline.cli", "run", "--sync"]
        try:
            self._child = subprocess.Popen(command, cwd=clone, env=env, start_new_session=True)
            while self._child.poll() is None:
                time.sleep(_POLL_S)
        except BaseException:
            self.stop()
            raise
        if status := self._child.returncode:
            raise InputError(f"{folder.name}: the run in {clone} ended with status {status}, as said above.")
        if _has_remote(clone):
            subprocess.run([sys.executable, "-m", "dvc", "push", "--quiet"], cwd=clone, env=env, check=True)

    def stop(self) -> None:
        """End the run and all its processes, and wait until they have put away what they held."""
        if self._child is None:
            return
        group = self._child.pid
        with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it is gone already
            os.killpg(group, signal.SIGTERM)
            # Not `Popen.wait`: this may run in a signal handler that came while `poll` held its lock.
            os.waitid(os.P_PID, group, os.WEXITED | os.WNOWAIT)
        deadline = time.monotonic() + _LEAVE_S
        while _is_there(group, but=group) and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def _is_there(group: int, *, but: int) -> bool:
    """Whether a process of a group still runs, besides one that waits to be buried."""
    import psutil

    for process in psutil.process_iter(["pid"]):
        with contextlib.suppress(ProcessLookupError):
            if process.pid != but and os.getpgid(process.pid) == group:
                return True
    return False


def _make_clone(clone: Path, job: Mapping[str, Any]) -> None:
    """A clone of the project at the commit, whole or not at all; data and DVC's cache are the project's."""
    home, part = Path(job["home"]), clone.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    for command in (
        ["clone", "--quiet", str(home), str(part)],
        ["-C", str(part), "checkout", "-q", job["commit"]],
    ):
        answer = subprocess.run(["git", *command], capture_output=True, text=True, check=False)
        if answer.returncode:
            raise InputError(f"{home} cannot be cloned: {' '.join(answer.stderr.split())}")
    if (home / _LOCAL_CONFIG).is_file():
        shutil.copy(home / _LOCAL_CONFIG, part / _LOCAL_CONFIG)
    config = configparser.ConfigParser(interpolation=None)
    config.read(part / _LOCAL_CONFIG, encoding="utf-8")
    config["cache"] = {
        **dict(config.items("cache") if config.has_section("cache") else []),
        "dir": job["cache"],
    }
    with (part / _LOCAL_CONFIG).open("w", encoding="utf-8") as file:
        config.write(file)
    if (home / "data").is_dir() and not (part / "data").exists():
        (part / "data").symlink_to(home / "data")
    part.rename(clone)


def _has_remote(clone: Path) -> bool:
    config = configparser.ConfigParser(interpolation=None)
    config.read([clone / ".dvc" / "config", clone / _LOCAL_CONFIG], encoding="utf-8")
    return config.has_option("core", "remote")


def main() -> None:
    """`python -m pipeline.experiments.job FOLDER`, without submitit; SIGTERM closes the row."""
    job = SweepJob()

    def leave(_signal: int, _frame: FrameType | None) -> None:
        job.stop()
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave)
    start_logging()
    try:
        job(sys.argv[1])
    except InputError as error:
        sys.exit(f"ERROR: {error}")


if __name__ == "__main__":
    main()
