"""Completes the MLflow row of the present run from its files."""

from __future__ import annotations

import argparse
import logging

from osr.params import flatten, load_params
from pipeline.tracking.execution import log_lock, mirror_missing, missing
from pipeline.tracking.graph import up_to_date
from pipeline.tracking.provenance import hardware
from pipeline.tracking.rows import create, enter, find_for_sync
from pipeline.tracking.stage_run import is_off
from pipeline.tracking.store import connect, owner, store_may_fail
from pipeline.workspace.place import workspace_root
from pipeline.workspace.stages import PARAMS, STAGES

logger = logging.getLogger("osr.tracking")


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
        logger.warning("no stage is up to date: `osr run` comes first")
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
                "no row was added to MLflow: `osr run` has yet to run %s with the settings and code here",
                ", ".join(stale),
            )
            return True
        run_id = create(store, params, owner=owner()) if row is None else str(row.info.run_id)
        enter(store, params, run_id, owner=owner(), hardware=hardware())
        sent = mirror_missing(store, run_id, present)
        log_lock(store, run_id)
        store.client.set_terminated(run_id, "FINISHED")
        logger.info("sent to MLflow's row %s: %s", run_id, ", ".join(sent))
        return True
    return False


def run(_options: argparse.Namespace) -> int:
    """Command tracking sync.

    Raises:
        InputError: params.yaml is bad, or DVC cannot say what is up to date.
    """
    return 0 if sync() else 1
