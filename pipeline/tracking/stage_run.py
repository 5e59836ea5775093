"""The MLflow row of a pipeline execution, which its stages join.

Files come first: a stage whose store cannot be reached succeeds, and the next stage of the execution or
`osr tracking sync` mirrors what is missing. `OSR_TRACKING=off` switches MLflow off.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from osr.params import Params, flatten
from pipeline.tracking.forkserver import DONE, ask_for_keeper
from pipeline.tracking.provenance import hardware
from pipeline.tracking.store import KILLED, LATER, owner
from pipeline.workspace.interrupts import is_interrupt
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
        self._connection = ask_for_keeper()
        self._is_gone = False
        self.tell({"stage": stage, "params": params, "owner": owner(), "hardware": hardware()})

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message; when the process is gone, `end` says so."""
        if not self._is_gone:
            try:
                self._connection.sendall(json.dumps(message).encode() + b"\n")
            except (BrokenPipeError, ConnectionResetError):
                self._is_gone = True

    def end(self, message: Mapping[str, Any]) -> None:
        """Send the last message, and wait until the row holds everything."""
        self.tell(message)
        with self._connection:
            if not self._is_gone and not _last_word(self._connection).endswith(DONE):
                self._is_gone = True
        if self._is_gone:
            logger.error("MLflow was not updated (its process is gone); %s", LATER)


def _last_word(connection: socket.socket) -> bytes:
    """All that comes until the other end is closed."""
    try:
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(64), b""))
    except (BrokenPipeError, ConnectionResetError):
        return b""


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
            failed = isinstance(error, Exception) and not is_interrupt(error)
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
