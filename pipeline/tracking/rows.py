"""One MLflow row per pipeline execution: which row a stage belongs to, and what the row is told first."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.tracking.described import is_made_up, row_name
from pipeline.tracking.mirror import METRICS_DIGEST, agrees, describe, metrics_digest, set_tags
from pipeline.tracking.provenance import CHANGES, provenance, user
from pipeline.tracking.store import FINISHED_STATES, OWNER, SAME_ROW, STAGE, Store
from pipeline.workspace.stages import METRICS, STAGES

KEY = "osr.key"
LIVE = "osr.live."
RESTORE = "osr.restore"
_MAX_PARAM_LENGTH = 6000
_PARAMS_PER_CALL = 100
_SYNC_CANDIDATES = 50
_CHANGES_DIGEST = "osr.changes"


def find_for_stage(
    store: Store, params: Mapping[str, Any], *, running: str, present: Iterable[str]
) -> Any | None:
    """The row that a stage joins, or None when it needs a new one.

    Under `mlflow run` it is MLflow's own row; else the newest row with the same params, experiment name and
    workspace, when it fits. A row fits when it holds no result of the stage yet, and what it holds of the
    stages below agrees with the files here. With `SAME_ROW` it may hold one: a workspace of one execution, in
    which DVC was ended before it had noted what the stage made.

    Args:
        store: the connection.
        params: flattened.
        running: the stage that joins.
        present: stages below it whose results stand in the working directory.
    """
    candidates = [_mlflow_run(store), _newest(store, row_key(store, params, _experiment_name()))]
    for row in candidates:
        if row is not None and _accepts(row, params, running) and _fits(store, row, present):
            return row
    return None


def find_for_sync(store: Store, params: Mapping[str, Any], *, present: Iterable[str]) -> Any | None:
    """The newest row of these params that agrees with the files, whatever its DVC experiment is called."""
    own = _mlflow_run(store)
    if own is not None:
        return own
    rows = store.client.search_runs(
        [store.experiment],
        filter_string=f"tags.`{KEY}` LIKE '{row_key(store, params, '%')}'",
        order_by=["attributes.start_time DESC"],
        max_results=_SYNC_CANDIDATES,
    )
    return next((row for row in rows if _fits(store, row, present)), None)


def create(store: Store, params: Mapping[str, Any], *, owner: str) -> str:
    """Make a row, RUNNING and owned by a process; return its id, with which `enter` goes on."""
    name = _experiment_name()
    tags = {
        OWNER: owner,
        KEY: row_key(store, params, name),
        "mlflow.user": user(),
        "mlflow.source.name": str(store.root),
        "mlflow.source.type": "PROJECT",
    }
    if name:
        tags["osr.experiment"] = name
    if parent := os.environ.get("MLFLOW_RUN_ID"):
        tags["mlflow.parentRunId"] = parent
    called = row_name(params, name) or None
    return str(store.client.create_run(store.experiment, tags=tags, run_name=called).info.run_id)


def enter(store: Store, params: Mapping[str, Any], run_id: str, *, owner: str, hardware: str) -> None:
    """Make a row RUNNING, owned by a process, with where it comes from and all params."""
    key, origin = row_key(store, params, _experiment_name()), provenance(hardware)
    row = store.client.get_run(run_id)
    tags, called = row.data.tags, row_name(params) if is_made_up(row.info.run_name) else None
    # The owner comes first: a RUNNING row without a living owner is how dead ones are recognised.
    set_tags(store.client, run_id, {OWNER: owner, KEY: tags.get(KEY, key), **origin.tags})
    store.client.update_run(run_id, status="RUNNING", name=called or None)
    if origin.way_back:
        set_tags(store.client, run_id, {RESTORE: origin.way_back.replace("RUN_ID", run_id)})
    log_params(store.client, run_id, params)
    describe(store.client, run_id)
    if origin.patch:
        _log_changes(store.client, run_id, origin.patch, known=tags.get(_CHANGES_DIGEST))


def row_key(store: Store, params: Mapping[str, Any], experiment: str) -> str:
    """What executions that may share a row have in common: workspace, params, name of the DVC experiment."""
    content = json.dumps([store.workspace, params], sort_keys=True, default=str)
    return f"{hashlib.sha256(content.encode()).hexdigest()[:32]}:{experiment}"


def _experiment_name() -> str:
    return os.environ.get("DVC_EXP_NAME", "")


def log_params(client: Any, run_id: str, params: Mapping[str, Any]) -> None:
    """Send the params that the row does not hold yet."""
    from mlflow.entities import Param

    held = client.get_run(run_id).data.params
    missing = [Param(name, _text(value)) for name, value in params.items() if name not in held]
    for start in range(0, len(missing), _PARAMS_PER_CALL):
        client.log_batch(run_id, params=missing[start : start + _PARAMS_PER_CALL])


def _newest(store: Store, key: str) -> Any | None:
    """The newest row with this key, unless a living process is at work on it."""
    rows = store.client.search_runs(
        [store.experiment],
        filter_string=f"tags.`{KEY}` = '{key}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return rows[0] if rows and rows[0].info.status != "RUNNING" else None


def _mlflow_run(store: Store) -> Any | None:
    """The row that `mlflow run` made for this process; in a temporary copy it is the parent instead."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    return store.client.get_run(run_id) if run_id and Path.cwd().resolve() == store.root else None


def _accepts(row: Any, params: Mapping[str, Any], running: str) -> bool:
    """Whether the stage can be logged in the row: same params, and no result of it yet."""
    held = row.data.params
    if any(held.get(name, _text(value)) != _text(value) for name, value in params.items()):
        return False
    return SAME_ROW in os.environ or row.data.tags.get(STAGE + running) not in FINISHED_STATES


def _fits(store: Store, row: Any, present: Iterable[str]) -> bool:
    """Whether everything the row holds of the stages that are present here comes from the files here."""
    tags = row.data.tags
    for name in present:
        if tags.get(STAGE + name) in FINISHED_STATES:
            if tags.get(METRICS_DIGEST + name) != metrics_digest(STAGES[name]):
                return False
        elif LIVE + name in tags and not agrees(store.client, row.info.run_id, STAGES[name]):
            return False
    return True


def _log_changes(client: Any, run_id: str, patch: bytes, *, known: str | None) -> None:
    """Keep what differs from the commit as an artifact; sent again only when it has changed."""
    digest = hashlib.sha256(patch).hexdigest()[:16]
    if known == digest:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CHANGES
        path.write_bytes(patch)
        client.log_artifact(run_id, str(path), METRICS.as_posix())
    set_tags(client, run_id, {_CHANGES_DIGEST: digest})


def _text(value: Any) -> str:
    """A param as MLflow holds it; longer ones are cut, and end in an ellipsis."""
    text = str(value)
    return text if len(text) <= _MAX_PARAM_LENGTH else text[: _MAX_PARAM_LENGTH - 1] + "…"
