"""The MLflow row of a pipeline execution, which its stages join.

Files come first: a stage whose store cannot be reached succeeds, and the next stage of the execution or
`osr tracking sync` mirrors what is missing. `OSR_TRACKING=off` switches MLflow off.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from osr.params import Params, flatten
from pipeline.tracking.execution import Execution, Row
from pipeline.workspace.place import is_helper

logger = logging.getLogger("osr.tracking")

_EXIT_SIGTERM = 128 + signal.SIGTERM


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
    execution = Execution(name, flatten(params))
    with _sigterm_exits():
        try:
            yield execution.start()
            execution.finish()
        except BaseException as error:
            execution.fail(error)
            raise


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
