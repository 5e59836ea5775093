"""The MLflow row of a pipeline execution, which its stages join.

Files come first: a stage whose store cannot be reached succeeds, and the next stage of the execution or
`osr tracking sync` mirrors what is missing. `OSR_TRACKING=off` switches MLflow off.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from osr.params import Params, flatten
from pipeline.tracking.provenance import hardware
from pipeline.tracking.store import KILLED, LATER, owner
from pipeline.workspace.place import is_helper

logger = logging.getLogger("osr.tracking")

_EXIT_SIGTERM = 128 + signal.SIGTERM
_MAX_REASON_LENGTH = 500


class Row:
    """The MLflow row of a running stage."""

    def __init__(self, tell: Callable[[Mapping[str, Any]], None] | None = None) -> None:
        self._tell = tell

    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve; does nothing when tracking is off.

        Points are sent once a second at most, the rest of them when the stage ends in any way but SIGKILL;
        then the stage that runs again completes the curves that stand in its history file.

        Args:
            epoch: the step.
            values: by name, such as `train/loss`; the same names as the columns of the history file, and
                names that begin with `speed/` or `system/`, which may differ from one attempt to the next.
        """
        if self._tell is not None:
            now = int(time.time() * 1000)
            self._tell({"points": [(name, epoch, float(value), now) for name, value in values.items()]})


class Keeper:
    """The process beside the stage that keeps its row; see `pipeline.tracking.keeper`.

    Args:
        stage: as in dvc.yaml.
        params: flattened.
    """

    def __init__(self, stage: str, params: Mapping[str, Any]) -> None:
        command = [sys.executable, "-m", "pipeline.tracking.keeper"]
        # In a session of its own: what ends the stage's group of processes leaves it time for the last word.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        self.tell({"stage": stage, "params": params, "owner": owner(), "hardware": hardware()})

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message; when the process is gone, `end` says so."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                self._close()

    def end(self, message: Mapping[str, Any]) -> None:
        """Send the last message, and wait until the row holds everything."""
        self.tell(message)
        self._close()
        if status := self._process.wait():
            logger.error("MLflow was not updated (its process ended with status %d); %s", status, LATER)

    def _close(self) -> None:
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                return


@contextmanager
def stage_run(name: str, params: Params) -> Iterator[Row]:
    """Run a stage in the MLflow row of its pipeline execution.

    On a clean exit the stage's files (see `pipeline.workspace.stages`) are mirrored, so they must be written
    by then. An exception makes the row FAILED; SIGTERM (exit status 143), Ctrl-C and `sys.exit` make it
    KILLED.

    Args:
        name: of the stage, as in dvc.yaml.
        params: the whole of params.yaml.
    """
    if is_off():
        yield Row()
        return
    with _sigterm_exits():
        keeper = Keeper(name, flatten(params))
        try:
            yield Row(keeper.tell)
            keeper.end({})
        except BaseException as error:
            failed = isinstance(error, Exception)
            keeper.end({"failed": failed, "reason": failure(error) if failed else KILLED})
            raise


def failure(error: BaseException) -> str:
    """What a row's tag says of an error."""
    return f"FAILED: {type(error).__name__}: {error}"[:_MAX_REASON_LENGTH]


def is_off() -> bool:
    """Whether this process has no row: switched off, or one of the helpers of a distributed training."""
    return os.environ.get("OSR_TRACKING", "").lower() == "off" or is_helper()


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """Let SIGTERM end the process by an exception, so that the row can be closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(_EXIT_SIGTERM)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)
