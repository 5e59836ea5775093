"""The MLflow row of a pipeline execution: stages join it, `sync` completes it.

Files come first: a stage whose store cannot be reached succeeds, and the next stage of the execution or
`python -m pipeline.tracking sync` mirrors what is missing. `OSR_TRACKING=off` switches MLflow off.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from osr.config import Params, flatten, load_params
from osr.errors import InputError
from pipeline.graph import ancestors, up_to_date
from pipeline.mirror import Point, agrees, log_points, logged, mirror, set_tags
from pipeline.rows import FINISHED_STATES, LIVE, enter, find_for_stage, find_for_sync
from pipeline.stages import PARAMS, STAGES
from pipeline.store import KILLED, STAGE, Store, connect, store_may_fail, workspace_root

logger = logging.getLogger("osr.tracking")

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # of torchrun, Fabric and Slurm
_EXIT_SIGTERM = 128 + signal.SIGTERM
_MAX_REASON_LENGTH = 500
_VARYING = "speed/"
_LATER = "the results are safe as files; the next stage or `python -m pipeline.tracking sync` sends them."


class Row:
    """The MLflow row of a running stage."""

    def __init__(self, execution: _Execution | None = None) -> None:
        self._execution = execution

    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve; does nothing when tracking is off or the store has failed.

        Args:
            epoch: the step.
            values: by name, such as `train/loss`; the same names as the columns of the history file, and
                names that begin with `speed/`, which may differ from one attempt to the next.
        """
        if self._execution is None:
            return
        points = [Point(name, epoch, float(value)) for name, value in values.items()]
        execution, self._execution = self._execution, None
        with store_may_fail("no more epochs are shown live; the curves are completed when the stage ends."):
            execution.log_live(points)
            self._execution = execution


class _Execution:
    """A stage and the row it belongs to."""

    def __init__(self, stage: str, params: Mapping[str, Any]) -> None:
        self.stage = stage
        self.params = params
        self.store: Store | None = None
        self.run_id: str | None = None
        self.held: dict[tuple[str, int], float] | None = None

    def start(self) -> Row:
        """Join the row and mirror what DVC took from its cache."""
        with store_may_fail("the stage runs all the same."):
            store, run_id = self._join()
            set_tags(store.client, run_id, {STAGE + self.stage: "running"})
            return Row(self)
        return Row()

    def log_live(self, points: Sequence[Point]) -> None:
        """Send the points that an interrupted attempt has not sent; begin another row where it differs."""
        store, run_id = self.store, self.run_id
        if store is None or run_id is None:  # the stage has not started
            return
        if self.held is None:
            self.held = {}
            if LIVE + self.stage in store.client.get_run(run_id).data.tags:
                self.held = logged(store.client, run_id, {point.name for point in points})
        if any(self._contradicts(point) for point in points):
            run_id = self._begin_anew(store, run_id)
        missing = [point for point in points if (point.name, point.step) not in self.held]
        log_points(store.client, run_id, missing, tags={LIVE + self.stage: "true"})

    def finish(self) -> None:
        """Mirror the stage's files; the row is FINISHED until the next stage joins it."""
        with store_may_fail(_LATER):
            store, run_id = self._join()
            stage = STAGES[self.stage]
            live = LIVE + self.stage in store.client.get_run(run_id).data.tags
            if live and not agrees(store.client, run_id, stage):
                run_id = self._begin_anew(store, run_id)
            mirror(store.client, run_id, stage, state="done")
            store.client.set_terminated(run_id, "FINISHED")

    def fail(self, error: BaseException) -> None:
        """Say in the row how the stage ended."""
        if self.store is None or self.run_id is None:
            return
        failed = isinstance(error, Exception)
        reason = f"FAILED: {type(error).__name__}: {error}" if failed else KILLED
        with store_may_fail("the row does not say that the stage failed."):
            set_tags(self.store.client, self.run_id, {STAGE + self.stage: reason[:_MAX_REASON_LENGTH]})
            self.store.client.set_terminated(self.run_id, "FAILED" if failed else KILLED)

    def _join(self) -> tuple[Store, str]:
        if self.store is None:
            self.store = connect(workspace_root())
        below = self._below()
        if self.run_id is None:
            row = find_for_stage(self.store, self.params, running=self.stage, present=below)
            self.run_id = enter(self.store, self.params, row)
        _mirror_missing(self.store, self.run_id, below)
        return self.store, self.run_id

    def _below(self) -> list[str]:
        return [name for name in ancestors(self.stage) if STAGES[name].metrics.exists()]

    def _contradicts(self, point: Point) -> bool:
        """Whether the interrupted attempt sent another value, which only a training begun anew explains."""
        if self.held is None or point.name.startswith(_VARYING):
            return False
        return repr(self.held.get((point.name, point.step), point.value)) != repr(point.value)

    def _begin_anew(self, store: Store, left: str) -> str:
        """Leave the row of the interrupted attempt as it is, and go on in a new one."""
        self.held = {}
        self.run_id = enter(store, self.params, None)
        set_tags(store.client, left, {STAGE + self.stage: f"{KILLED}: begun anew in row {self.run_id}"})
        store.client.set_terminated(left, KILLED)
        _mirror_missing(store, self.run_id, self._below())
        set_tags(store.client, self.run_id, {STAGE + self.stage: "running"})
        return self.run_id


@contextmanager
def stage_run(name: str, params: Params) -> Iterator[Row]:
    """Run a stage in the MLflow row of its pipeline execution.

    On a clean exit the stage's files (see `pipeline.stages`) are mirrored, so they must be written by then.
    An exception makes the row FAILED; SIGTERM (exit status 143), Ctrl-C and `sys.exit` make it KILLED.

    Args:
        name: of the stage, as in dvc.yaml.
        params: the whole of params.yaml.
    """
    if is_off():
        yield Row()
        return
    execution = _Execution(name, flatten(params))
    with _sigterm_exits():
        try:
            yield execution.start()
            execution.finish()
        except BaseException as error:
            execution.fail(error)
            raise


def sync() -> bool:
    """Complete the row of the current params with every stage whose files are up to date.

    A stage counts as up to date when `dvc status` finds nothing changed in it or below it. The row is the
    newest one of these params that agrees with the files; a new one when there is none.

    Returns:
        Whether MLflow holds everything now.
    """
    if is_off():
        logger.info("OSR_TRACKING=off: nothing is sent to MLflow")
        return True
    params = flatten(load_params(PARAMS))
    present = [name for name in up_to_date() if STAGES[name].metrics.exists()]
    if not present:
        logger.warning("no stage is up to date: run `dvc repro` first")
        return True
    with store_may_fail("nothing was lost: run sync again when it answers."):
        store = connect(workspace_root())
        row = find_for_sync(store, params, present=present)
        if row is not None and not _missing(row, present):
            logger.info("MLflow's row %s already holds %s", row.info.run_id, ", ".join(present))
            return True
        run_id = enter(store, params, row)
        sent = _mirror_missing(store, run_id, present)
        store.client.set_terminated(run_id, "FINISHED")
        logger.info("sent to MLflow's row %s: %s", run_id, ", ".join(sent))
        return True
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: `python -m pipeline.tracking sync`."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.tracking", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync", help="send what MLflow does not hold yet", description=sync.__doc__)
    parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        return 0 if sync() else 1
    except InputError as error:
        logger.error("%s", error)
        return 1


def _missing(row: Any, names: Sequence[str]) -> list[str]:
    """Those stages whose results the row does not hold."""
    return [name for name in names if row.data.tags.get(STAGE + name) not in FINISHED_STATES]


def _mirror_missing(store: Store, run_id: str, names: Sequence[str]) -> list[str]:
    """Mirror those stages whose results the row does not hold, as `cached`."""
    missing = _missing(store.client.get_run(run_id), names)
    for name in missing:
        mirror(store.client, run_id, STAGES[name], state="cached")
    return missing


def is_off() -> bool:
    """Whether this process has no row: switched off, or one of the helpers of a distributed training."""
    return os.environ.get("OSR_TRACKING", "").lower() == "off" or is_helper()


def is_helper() -> bool:
    """Whether this process is one of a distributed training, and not its first."""
    return any(os.environ.get(rank, "0") != "0" for rank in _RANKS)


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


if __name__ == "__main__":
    sys.exit(main())
