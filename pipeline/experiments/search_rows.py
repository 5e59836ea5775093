"""The rows of a search in MLflow: one for the search, and below it one for each trial that is over.

Optuna's database is the truth: a row is made of it when its trial is over, and a search that goes on makes
those that are missing.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.tracking.mirror import Point, log_points, set_tags
from pipeline.tracking.provenance import hardware, provenance, user
from pipeline.tracking.rows import log_params
from pipeline.tracking.stage_run import failure, is_off
from pipeline.tracking.store import KILLED, OWNER, Store, connect, is_alive, owner, store_may_fail
from pipeline.workspace.interrupts import is_interrupt
from pipeline.workspace.place import workspace_root

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STUDY, TRIAL, STATE = "osr.search", "osr.search.trial", "osr.search.state"
PARENT = "mlflow.parentRunId"
_LATER = "the trials stand in Optuna's database; the same `osr search` sends them."
_PAGE = 1000


class SearchRows:
    """The row of a search, while it runs, and those of its trials.

    Args:
        study: name of it.
        source: the space's file, which the row keeps.
        trainings: their names, in the order of a trial's numbers.
        settings_of: what Optuna chose -> all settings, flattened.
    """

    def __init__(
        self,
        study: str,
        source: Path,
        trainings: Sequence[str],
        settings_of: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> None:
        self.study, self.source = study, source
        self.trainings, self.settings_of = trainings, settings_of
        self.owner = owner()
        self.store: Store | None = None
        self.parent = ""
        self.held: set[str] = set()

    def __enter__(self) -> SearchRows:
        if not is_off():
            with store_may_fail(_LATER):
                self._join()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and self.store is not None:
            with store_may_fail("the row does not say that the search was ended."):
                failed = isinstance(error, Exception) and not is_interrupt(error)
                set_tags(self.store.client, self.parent, {STATE: failure(error) if failed else KILLED})
                self.store.client.set_terminated(self.parent, "FAILED" if failed else KILLED)

    def mirror(self, trials: Sequence[FrozenTrial]) -> None:
        """Make the rows of trials that are over and have none, but for those of another process at work."""
        if is_off():
            return
        with store_may_fail(_LATER):
            store = self._join()
            for trial in trials:
                number = str(trial.number)
                if trial.state.is_finished() and number not in self.held and self._is_ours(trial):
                    self._row(store, trial)
                    self.held.add(number)

    def _is_ours(self, trial: FrozenTrial) -> bool:
        held = str(trial.user_attrs.get("owner", self.owner))
        return held == self.owner or (held.startswith(f"{platform.node()}:") and not is_alive(held))

    def end(self, preset: str, summary: str) -> None:
        """Say what came out."""
        if is_off():
            return
        with store_may_fail(_LATER):
            store = self._join()
            store.client.log_text(self.parent, preset, "preset.yaml")
            set_tags(store.client, self.parent, {STATE: "done", "mlflow.note.content": summary})
            store.client.set_terminated(self.parent, "FINISHED")

    def _join(self) -> Store:
        """Make or find the row of the search; learn which trials have one."""
        if self.store is not None:
            return self.store
        store = connect(workspace_root())
        rows = _search(store, f"tags.`{STUDY}` = '{self.study}'")
        parents = [row for row in rows if TRIAL not in row.data.tags]
        if parents:
            self.parent = str(parents[-1].info.run_id)
            set_tags(store.client, self.parent, {OWNER: self.owner})
            store.client.update_run(self.parent, status="RUNNING")
        else:
            tags = {STUDY: self.study, OWNER: self.owner, **_origin(store)}
            made = store.client.create_run(store.experiment, tags=tags, run_name=f"search {self.study}")
            self.parent = str(made.info.run_id)
            store.client.log_artifact(self.parent, str(self.source))
        for row in rows:
            if TRIAL in row.data.tags and row.info.status in ("FINISHED", "FAILED"):
                self.held.add(row.data.tags[TRIAL])
            elif TRIAL in row.data.tags and row.info.status == KILLED:  # while the row was made
                store.client.delete_run(row.info.run_id)
        self.store = store
        return store

    def _row(self, store: Store, trial: FrozenTrial) -> None:
        state = trial.state.name.lower()
        tags = {
            STUDY: self.study,
            TRIAL: str(trial.number),
            STATE: state,
            PARENT: self.parent,
            OWNER: self.owner,
            **_origin(store),
        }
        if reason := trial.user_attrs.get("reason"):
            tags["osr.search.reason"] = reason
        name = f"trial {trial.number}" + ("" if state == "complete" else f" ({state})")
        made = store.client.create_run(store.experiment, tags=tags, run_name=name)
        run_id = str(made.info.run_id)
        log_params(store.client, run_id, self.settings_of(trial.params))
        log_points(store.client, run_id, _points(trial, self.trainings))
        store.client.set_terminated(run_id, "FAILED" if state == "fail" else "FINISHED")


def _points(trial: FrozenTrial, trainings: Sequence[str]) -> list[Point]:
    steps = trial.intermediate_values.items()
    points = [Point("held_out/auroc_by_epoch", epoch, value) for epoch, value in steps]
    if trial.value is not None and trial.state.name == "COMPLETE":
        points.append(Point("held_out/auroc", 0, trial.value))
        points.append(Point("held_out/accuracy", 0, trial.user_attrs["accuracy"]))
        aurocs = trial.user_attrs["aurocs"]
        points += [
            Point(f"held_out/auroc/{name}", 0, value) for name, value in zip(trainings, aurocs, strict=True)
        ]
    return points


def _origin(store: Store) -> dict[str, str]:
    return {
        "mlflow.user": user(),
        "mlflow.source.name": str(store.root),
        "mlflow.source.type": "PROJECT",
        **provenance(hardware()).tags,
    }


def _search(store: Store, condition: str) -> list[Any]:
    """All rows of this experiment that meet a condition, the oldest last."""
    found: list[Any] = []
    token = None
    while True:
        page = store.client.search_runs(
            [store.experiment],
            filter_string=condition,
            order_by=["attributes.start_time DESC"],
            max_results=_PAGE,
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found
