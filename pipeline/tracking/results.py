"""What `osr compare` reads: one result per execution of the pipeline, from MLflow or from the files here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from osr.errors import InputError
from osr.metrics.comparison import Scored
from osr.metrics.groups import Groups
from osr.params import flatten, load_params
from osr.settings.gone import is_as_ever
from osr.stored.arrays import read_arrays
from pipeline.tracking.mirror import final_metrics
from pipeline.tracking.rows_in_bulk import Row, read_rows
from pipeline.tracking.store import FINISHED_STATES, OWNER, STAGE, Store, connect, is_begun
from pipeline.workspace.files import read_json
from pipeline.workspace.lock import check_results
from pipeline.workspace.stages import PARAMS, SCORES, SPLIT, STAGES

DIGEST = "osr.test.digest"
SPLIT_DIGEST = "osr.split.digest"
COMMIT = "mlflow.source.git.commit"


@dataclass(frozen=True)
class Result:
    """One execution of the pipeline with test metrics.

    Args:
        name: how messages call it.
        started: milliseconds since 1970; of two equal executions the newer counts.
        params: dotted key -> value as text, with the digests of split and test set and the git commit.
        metrics: by their names in MLflow; NaN where a metric is not defined.
        host: the machine that is at work on it; empty once its test metrics are there.
    """

    name: str
    started: int
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    host: str = ""

    @property
    def digest(self) -> str:
        """Of the test set: equal digests, equal test images. Older rows have that of the whole split only."""
        return self.params.get(DIGEST) or self.params.get(SPLIT_DIGEST, "")


class Stored(NamedTuple):
    """Executions, newest first: those with test metrics, and those on their way there."""

    done: list[Result]
    going: list[Result]


def read_store(store: Store) -> Stored:
    """The rows whose stage evaluate is done or cached, and RUNNING ones where it is not yet.

    Raises:
        MlflowException, SQLAlchemyError, OSError: the store cannot be reached.
    """
    return results_of(read_rows(store))


def read_workspace(root: Path) -> Stored:
    """As `read_store`, of the store of a workspace; none where nothing was recorded, and no store is made.

    Raises:
        MlflowException, SQLAlchemyError, OSError: the store cannot be reached.
    """
    return read_store(connect(root)) if is_begun(root) else Stored([], [])


def results_of(rows: Iterable[Row]) -> Stored:
    """The rows by whether their test metrics are final, which they are as soon as stage evaluate has ended.

    Settings that are gone since are left out where a run had them as they always are now.
    """
    stored = Stored([], [])
    for row in rows:
        marks = {key: row.tags[key] for key in (DIGEST, SPLIT_DIGEST, COMMIT) if key in row.tags}
        name = f"{row.name} ({row.run_id[:8]})"
        params = {key: text for key, text in row.params.items() if not is_as_ever(key, row.params)}
        result = Result(name, row.started, {**params, **marks}, row.metrics)
        if row.tags.get(f"{STAGE}evaluate") in FINISHED_STATES:
            stored.done.append(result)
        elif row.status == "RUNNING":
            host = row.tags.get(OWNER, "").partition(":")[0]
            stored.going.append(replace(result, host=host))
    return stored


def read_files() -> Result:
    """The present run: params.yaml and the metrics files in the working directory.

    Raises:
        InputError: params.yaml is bad or was changed since, or the run has not come to stage evaluate.
    """
    params = {key: str(value) for key, value in flatten(load_params(PARAMS)).items()}
    stages = [stage for stage in STAGES.values() if stage.metrics.is_file()]
    if STAGES["evaluate"] not in stages:
        raise InputError(f"{STAGES['evaluate'].metrics} is missing: `osr run` makes it.")
    check_results()
    metrics = {point.name: point.value for stage in stages for point in final_metrics(stage)}
    digests = read_json(SPLIT / "split.json")
    params[DIGEST], params[SPLIT_DIGEST] = (str(digests.get(name, "")) for name in ("test_digest", "digest"))
    return Result("the files here", 0, params, metrics)


def read_scores() -> tuple[dict[str, Scored], Groups | None]:
    """Of each detector of the present run: known scores, whether their class is right, unknown scores.

    With them the groups of these images, None where each stands for itself.

    Raises:
        InputError: the file of scores is missing, or damaged.
    """
    _, stored = read_arrays(SCORES, "test scores")
    known = stored["label"] >= 0
    correct = (stored["prediction"] == stored["label"])[known]
    names = [name for name in stored if name.startswith("score_")]
    scores = {name.removeprefix("score_"): stored[name] for name in names}
    groups = Groups.of(stored.get("group"), stored["label"])
    return {name: (values[known], correct, values[~known]) for name, values in scores.items()}, groups
