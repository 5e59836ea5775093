"""Copies the files of a stage to an MLflow row; what the row already holds is not sent again."""

from __future__ import annotations

import csv
import hashlib
import logging
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.tracking.described import NOTE, SHORT_NAMES, data_set, description
from pipeline.tracking.store import FINISHED_STATES, STAGE
from pipeline.workspace.files import md5_of, read_json
from pipeline.workspace.stages import INITIAL_WEIGHTS, SPLIT, STAGES, Stage

logger = logging.getLogger("osr.tracking")

METRICS_DIGEST = "osr.metrics."
CHECKPOINT = "osr.checkpoint"
DESCRIBED = "osr.described"  # digest of the description that was written for the reader
_METRICS_PER_CALL = 1000


class Point(NamedTuple):
    """One value of one curve; a final metric is a curve with the single step 0.

    Args:
        name: of the curve.
        step: the epoch.
        value: NaN is allowed.
        time_ms: when it was measured, since 1970; None means when it is sent.
    """

    name: str
    step: int
    value: float
    time_ms: int | None = None


def mirror(client: Any, run_id: str, stage: Stage, *, state: str) -> None:
    """Copy metrics, curves, artifacts and checkpoint of a stage to a row, and tag the stage last.

    Args:
        client: an `MlflowClient`.
        run_id: the row.
        stage: its files are read from the working directory.
        state: `done` or `cached`.
    """
    points = [*final_metrics(stage), *curves(stage)]
    log_points(client, run_id, _not_yet_logged(client, run_id, points))
    for path in (stage.metrics, *stage.artifacts):
        _upload(client, run_id, path)
    tags = {METRICS_DIGEST + stage.name: metrics_digest(stage), STAGE + stage.name: state}
    if stage.checkpoint is not None and stage.checkpoint.exists():
        tags[CHECKPOINT] = _checkpoint(client, run_id, stage.checkpoint)
        tags |= initial_weights()
    split = SPLIT / "split.json"
    if split in stage.artifacts and split.exists():
        digests = read_json(split)
        tags["osr.split.digest"] = str(digests.get("digest", ""))
        tags["osr.test.digest"] = str(digests.get("test_digest", ""))
        _log_data_set(client, run_id, tags["osr.split.digest"])
    set_tags(client, run_id, tags)
    describe(client, run_id)


def describe(client: Any, run_id: str) -> None:
    """Say in the row's description what ran and what came out, unless a reader wrote something there."""
    row = client.get_run(run_id)
    held = [name for name in STAGES if row.data.tags.get(STAGE + name) in FINISHED_STATES]
    text, present = description(row.data.params, held), row.data.tags.get(NOTE)
    if text and (present is None or _digest(present) == row.data.tags.get(DESCRIBED)) and text != present:
        set_tags(client, run_id, {NOTE: text, DESCRIBED: _digest(text)})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _log_data_set(client: Any, run_id: str, digest: str) -> None:
    """The row's entry in MLflow's column of data sets."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if fields := data_set(client.get_run(run_id).data.params, digest):
        context = InputTag("mlflow.data.context", "classes, parts and pixels")
        client.log_inputs(run_id, datasets=[DatasetInput(Dataset(**fields), tags=[context])])


def metrics_digest(stage: Stage) -> str:
    """Hash of the stage's metrics file: tells whether a row mirrors the files of the workspace."""
    return md5_of(stage.metrics)


def final_metrics(stage: Stage) -> list[Point]:
    """The numbers of metrics/<stage>.json, nested names joined by `/`; null stands for NaN.

    The headline stands under its short names.
    """
    content = read_json(stage.metrics)
    points, others = [], []
    for name, value in _leaves(content):
        if isinstance(value, int | float | None):
            called = SHORT_NAMES.get(name, name)
            points.append(Point(called, 0, math.nan if value is None else float(value)))
        else:
            others.append(name)
    if others:
        logger.warning("%s: not numbers, so not in MLflow: %s", stage.metrics, ", ".join(others))
    return points


def curves(stage: Stage) -> list[Point]:
    """The cells of the history CSV; an empty cell means not measured in that epoch."""
    if stage.history is None or not stage.history.exists():
        return []
    with stage.history.open(newline="", encoding="utf-8") as file:
        return [
            Point(name, int(row["epoch"]), float(cell))
            for row in csv.DictReader(file)
            for name, cell in row.items()
            if name != "epoch" and cell
        ]


def agrees(client: Any, run_id: str, stage: Stage) -> bool:
    """Whether every value that the row holds of the stage's curves stands in the history CSV."""
    expected = {(point.name, point.step): point.value for point in curves(stage)}
    if not expected:
        return False
    held = logged(client, run_id, {name for name, _ in expected})
    return all(repr(expected.get(place)) == repr(value) for place, value in held.items())


def logged(client: Any, run_id: str, names: Iterable[str]) -> dict[tuple[str, int], float]:
    """What a row holds of some curves, by name and step."""
    held = set(names) & set(client.get_run(run_id).data.metrics)
    return {(name, m.step): m.value for name in held for m in client.get_metric_history(run_id, name)}


def log_points(
    client: Any, run_id: str, points: Iterable[Point], tags: Mapping[str, str] | None = None
) -> None:
    """Send points in as few calls as MLflow allows, and tags with the first of them."""
    from mlflow.entities import Metric, RunTag

    now = int(time.time() * 1000)
    metrics = [Metric(name, value, time_ms or now, step) for name, step, value, time_ms in points]
    first = [RunTag(key, value) for key, value in (tags or {}).items()]
    for start in range(0, len(metrics), _METRICS_PER_CALL):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_CALL], tags=first)
        first = []


def set_tags(client: Any, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags in one call."""
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _not_yet_logged(client: Any, run_id: str, points: list[Point]) -> list[Point]:
    held = logged(client, run_id, {point.name for point in points})
    return [point for point in points if (point.name, point.step) not in held]


def _upload(client: Any, run_id: str, path: Path) -> None:
    """Copy a file or folder to the place in the row's artifacts that it has in the project."""
    if path.is_dir():
        client.log_artifacts(run_id, str(path), path.as_posix())
    elif path.exists():
        folder = path.parent.as_posix()
        client.log_artifact(run_id, str(path), None if folder == "." else folder)
    else:
        logger.warning("%s does not exist, so it is not in MLflow", path)


def initial_weights() -> dict[str, str]:
    """The tag that names the local file a training began with; none where it began without one."""
    if not INITIAL_WEIGHTS.is_file():
        return {}
    held = read_json(INITIAL_WEIGHTS)
    return {"osr.initial_weights": f"{held['path']} sha256:{held['sha256']}"}


def _checkpoint(client: Any, run_id: str, path: Path) -> str:
    """`runs:/<row>/<path> sha256:<digest>` of the row that holds these weights; uploaded when none does."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.`{CHECKPOINT}` LIKE '%sha256:{digest}'"
    for row in client.search_runs(experiments, filter_string=query, max_results=1):
        link = str(row.data.tags[CHECKPOINT])
        if is_stored(client, link):
            return link
    _upload(client, run_id, path)
    return f"runs:/{run_id}/{path.as_posix()} sha256:{digest}"


def is_stored(client: Any, link: str) -> bool:
    """Whether the row of a checkpoint link and its file still exist."""
    from mlflow.exceptions import MlflowException

    maker, _, path = link.split()[0].removeprefix("runs:/").partition("/")
    try:
        return any(entry.path == path for entry in client.list_artifacts(maker, path.rpartition("/")[0]))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # the row was deleted for good
            return False
        raise
