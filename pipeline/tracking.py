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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from osr.config import Params, flatten, load_params
from osr.errors import InputError
from pipeline.execution import Execution, Row, log_lock, mirror_missing, missing
from pipeline.graph import up_to_date
from pipeline.rows import create, enter, find_for_sync
from pipeline.stages import PARAMS, STAGES
from pipeline.store import connect, store_may_fail, workspace_root

logger = logging.getLogger("osr.tracking")

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # of torchrun, Fabric and Slurm
_EXIT_SIGTERM = 128 + signal.SIGTERM


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
    execution = Execution(name, flatten(params))
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
    newest one of these params that agrees with the files. When there is none, a new one is made, but only
    if every stage is up to date: settings that nothing was run with have no row.

    Returns:
        Whether MLflow holds everything now, or there was nothing to send.
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
        if row is not None and not missing(row, present):
            logger.info("MLflow's row %s already holds %s", row.info.run_id, ", ".join(present))
            return True
        stale = [name for name in STAGES if name not in present]
        if row is None and stale:
            logger.warning(
                "no row was added to MLflow: `dvc repro` has yet to run %s with the settings and code here",
                ", ".join(stale),
            )
            return True
        run_id = create(store, params) if row is None else str(row.info.run_id)
        enter(store, params, run_id)
        sent = mirror_missing(store, run_id, present)
        log_lock(store, run_id)
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
