"""A running stage and its MLflow row: joins it, shows the curves, mirrors the files, says how it ended."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.tracking.answering import check_answers
from pipeline.tracking.graph import ancestors
from pipeline.tracking.lockfile import lock_text
from pipeline.tracking.mirror import Point, agrees, log_points, logged, mirror, set_tags
from pipeline.tracking.rows import LIVE, create, enter, find_for_stage
from pipeline.tracking.store import FINISHED_STATES, KILLED, LATER, STAGE, Store, connect, store_may_fail
from pipeline.workspace.place import workspace_root
from pipeline.workspace.stages import LOCK, METRICS, STAGES

_SEND_EVERY_S = 1.0
_VARYING = ("speed/", "system/")


class Execution:
    """A stage and the row it belongs to.

    Args:
        stage: as in dvc.yaml.
        params: flattened.
        owner: the stage's process, see `pipeline.tracking.store.owner`.
        hardware: what it runs on.
    """

    def __init__(self, stage: str, params: Mapping[str, Any], *, owner: str, hardware: str) -> None:
        self.stage = stage
        self.params = params
        self.owner = owner
        self.hardware = hardware
        self.store: Store | None = None
        self.run_id: str | None = None
        self.entered = False
        self.shown_live = False
        self.unsent: list[Point] = []
        self.sent_at = -math.inf
        self.held: dict[tuple[str, int], float] | None = None

    def start(self) -> None:
        """Join the row and mirror what DVC took from its cache."""
        with store_may_fail("the stage runs all the same."):
            store, run_id = self._join()
            set_tags(store.client, run_id, {STAGE + self.stage: "running"})
            self.shown_live = True

    def log_live(self, points: Sequence[Point]) -> None:
        """Keep points, and send what was kept when the last time is a second ago."""
        self.unsent += points
        due = time.monotonic() - self.sent_at >= _SEND_EVERY_S
        if self.shown_live and due and self.store is not None and self.run_id is not None:
            self.shown_live = False
            with store_may_fail(
                "no more epochs are shown live; the curves are completed when the stage ends."
            ):
                self._send(self.store, self.run_id)
                self.shown_live = True

    def send_rest(self) -> None:
        """Send the points that are left of a stage that is gone."""
        if self.store is not None and self.run_id is not None:
            with store_may_fail("the last epochs of the killed stage are not in its row."):
                self._send(self.store, self.run_id)

    def finish(self) -> None:
        """Mirror the stage's files; the row is FINISHED until the next stage joins it."""
        with store_may_fail(LATER):
            store, run_id = self._join()
            run_id = self._send(store, run_id)
            stage = STAGES[self.stage]
            live = LIVE + self.stage in store.client.get_run(run_id).data.tags
            if live and not agrees(store.client, run_id, stage):
                run_id = self._begin_anew(store, run_id)
            mirror(store.client, run_id, stage, state="done")
            log_lock(store, run_id, running=self.stage)
            store.client.set_terminated(run_id, "FINISHED")

    def fail(self, failed: bool, reason: str) -> None:
        """Say in the row that the stage failed, or else that it was killed, and why."""
        if self.store is None or self.run_id is None:
            return
        with store_may_fail("the row does not say that the stage failed."):
            check_answers(self.store.uri)
            run_id = self._send(self.store, self.run_id)
            set_tags(self.store.client, run_id, {STAGE + self.stage: reason})
            self.store.client.set_terminated(run_id, "FAILED" if failed else KILLED)

    def _send(self, store: Store, run_id: str) -> str:
        """Send the points that neither this attempt nor an interrupted one has sent.

        Returns:
            The row they are in: another one where the interrupted attempt has sent other values.
        """
        if not self.unsent:
            return run_id
        check_answers(store.uri)
        if self.held is None:
            row = store.client.get_run(run_id)
            resumed = LIVE + self.stage in row.data.tags
            self.held = logged(store.client, run_id, row.data.metrics) if resumed else {}
        if any(self._contradicts(point) for point in self.unsent):
            run_id = self._begin_anew(store, run_id)
        new = [point for point in self.unsent if (point.name, point.step) not in self.held]
        log_points(store.client, run_id, new, tags={LIVE + self.stage: "true"})
        self.unsent, self.sent_at = [], time.monotonic()
        return run_id

    def _join(self) -> tuple[Store, str]:
        if self.store is None:
            self.store = connect(workspace_root())
        else:
            check_answers(self.store.uri)
        below = self._below()
        if self.run_id is None:
            row = find_for_stage(self.store, self.params, running=self.stage, present=below)
            self.run_id = (
                create(self.store, self.params, owner=self.owner) if row is None else str(row.info.run_id)
            )
        if not self.entered:
            self._enter(self.store, self.run_id)
            self.entered = True
        mirror_missing(self.store, self.run_id, below)
        return self.store, self.run_id

    def _enter(self, store: Store, run_id: str) -> None:
        enter(store, self.params, run_id, owner=self.owner, hardware=self.hardware)

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
        self.run_id = create(store, self.params, owner=self.owner)
        self._enter(store, self.run_id)
        set_tags(store.client, left, {STAGE + self.stage: f"{KILLED}: begun anew in row {self.run_id}"})
        store.client.set_terminated(left, KILLED)
        mirror_missing(store, self.run_id, self._below())
        set_tags(store.client, self.run_id, {STAGE + self.stage: "running"})
        return self.run_id


def missing(row: Any, names: Iterable[str]) -> list[str]:
    """Those stages whose results the row does not hold."""
    return [name for name in names if row.data.tags.get(STAGE + name) not in FINISHED_STATES]


def mirror_missing(store: Store, run_id: str, names: Sequence[str]) -> list[str]:
    """Mirror those stages whose results the row does not hold, as `cached`."""
    lacking = missing(store.client.get_run(run_id), names)
    for name in lacking:
        mirror(store.client, run_id, STAGES[name], state="cached")
    return lacking


def log_lock(store: Store, run_id: str, running: str | None = None) -> None:
    """Keep in the row what dvc.lock says of the stages that the row holds."""
    row = store.client.get_run(run_id)
    text = lock_text(set(STAGES).difference(missing(row, STAGES)), running)
    store.client.log_text(run_id, text, (METRICS / LOCK).as_posix())
