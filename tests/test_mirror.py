"""The mirror against a real sqlite store."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from foreign_variables import forget_foreign

from osr.errors import InputError
from pipeline.tracking.mirror import agrees, final_metrics, mirror
from pipeline.tracking.provenance import user
from pipeline.tracking.rows import create, enter, find_for_stage
from pipeline.tracking.store import Store, connect, is_alive, owner, store_may_fail
from pipeline.workspace.place import workspace_root
from pipeline.workspace.stages import STAGES

TRAIN = STAGES["train"]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a database, because making one takes seconds."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        forget_foreign(patch)
        connect(root)
    return root


@pytest.fixture
def store(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A connection, with a trained stage in the working directory."""
    forget_foreign(monkeypatch)
    root = tmp_path / "workspace"
    shutil.copytree(empty, root)
    monkeypatch.chdir(root)
    for path in (TRAIN.metrics, TRAIN.checkpoint, TRAIN.history):
        assert path is not None
        path.parent.mkdir(parents=True, exist_ok=True)
    TRAIN.metrics.write_text('{"accuracy": {"val": 0.5, "test": null}, "epochs": 2, "note": "text"}')
    TRAIN.checkpoint.write_bytes(b"weights")
    TRAIN.history.write_text("epoch,train/loss,val/accuracy\n0,nan,\n1,0.5,0.75\n")
    # The database remembers where it was made; only a new experiment keeps its artifacts in the copy.
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "copy")
    return connect(root)


def new_row(store: Store, **params: object) -> str:
    run_id = create(store, params, owner=owner())
    enter(store, params, run_id, owner=owner(), hardware="a machine")
    return run_id


def test_numbers_and_curves_arrive_as_they_are(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    run_id = new_row(store)
    mirror(store.client, run_id, TRAIN, state="done")
    metrics = store.client.get_run(run_id).data.metrics
    assert math.isnan(metrics.pop("accuracy/test"))
    assert metrics == {"accuracy/val": 0.5, "epochs": 2, "train/loss": 0.5, "val/accuracy": 0.75}
    first, second = store.client.get_metric_history(run_id, "train/loss")
    assert math.isnan(first.value)
    assert (first.step, second.step) == (0, 1)
    assert [point.step for point in store.client.get_metric_history(run_id, "val/accuracy")] == [1]
    assert "not numbers, so not in MLflow: note" in caplog.text
    assert agrees(store.client, run_id, TRAIN)


def test_what_was_logged_live_is_completed_not_doubled(store: Store) -> None:
    run_id = new_row(store)
    store.client.log_metric(run_id, "train/loss", 0.5, step=1)
    mirror(store.client, run_id, TRAIN, state="done")
    mirror(store.client, run_id, TRAIN, state="done")
    assert sorted(point.step for point in store.client.get_metric_history(run_id, "train/loss")) == [0, 1]


def test_a_curve_of_other_values_does_not_agree(store: Store) -> None:
    run_id = new_row(store)
    store.client.log_metric(run_id, "train/loss", 0.4, step=1)
    assert not agrees(store.client, run_id, TRAIN)


def test_long_histories_need_several_calls(store: Store) -> None:
    TRAIN.history.write_text("epoch,train/loss\n" + "".join(f"{epoch},0.5\n" for epoch in range(2100)))
    run_id = new_row(store)
    mirror(store.client, run_id, TRAIN, state="done")
    assert len(store.client.get_metric_history(run_id, "train/loss")) == 2100


def test_equal_weights_are_stored_once_as_long_as_they_are_there(store: Store) -> None:
    first, second, third = (new_row(store, n=n) for n in range(3))
    for run_id in (first, second):
        mirror(store.client, run_id, TRAIN, state="done")
    tag = "osr.checkpoint"
    link = store.client.get_run(first).data.tags[tag]
    assert link.startswith(f"runs:/{first}/artifacts/model/model.safetensors sha256:")
    assert store.client.get_run(second).data.tags[tag] == link

    shutil.rmtree(store.root / "mlartifacts" / first)
    mirror(store.client, third, TRAIN, state="done")
    assert store.client.get_run(third).data.tags[tag].startswith(f"runs:/{third}/")


def test_params_of_any_number_and_length_are_logged(store: Store) -> None:
    params = {f"p{n}": n for n in range(250)} | {"empty": "", "long": "x" * 7000, "none": None}
    held = store.client.get_run(new_row(store, **params)).data.params
    assert len(held) == 253
    assert (held["empty"], held["none"], held["p249"]) == ("", "None", "249")
    assert held["long"] == "x" * 5999 + "…"


PHOTOS = {
    "dataset.name": "folder",
    "dataset.root": "/data",
    "dataset.folder": "straße und feld",
    "split.protocol": "explicit",
    "split.trial": 0,
    "model.backbone.name": "resnet18",
    "model.backbone.weights": "/weights/resnet18.pth",
    "train.regime": "probe",
    "train.seed": 0,
    "plot.detector": "knn",
}


def mirrored_photos(store: Store, run_id: str) -> None:
    """Stages prepare-split and plot of a run without unknown images."""
    counts = {"classes": {"known": 3, "unknown": 0}, "images": {"train": 1200, "val": 30, "test": 40}}
    headline = {"accuracy": 0.875, "known_acceptance": 0.95, "estimate_unknown_rejection": 0.12}
    for name, content in {"prepare-split": counts, "plot": {"headline": headline}}.items():
        STAGES[name].metrics.write_text(json.dumps(content))
    split = STAGES["prepare-split"].artifacts[0]
    split.parent.mkdir(parents=True, exist_ok=True)
    split.write_text('{"digest": "0123456789abcdef", "test_digest": "f"}')
    for name in ("prepare-split", "plot"):
        mirror(store.client, run_id, STAGES[name], state="done")


def test_a_row_says_in_words_what_ran_and_what_came_out(store: Store) -> None:
    run_id = new_row(store, **PHOTOS)
    row = store.client.get_run(run_id)
    assert row.info.run_name == "straße und feld, resnet18, probe"
    began = "resnet18, weights resnet18.pth; frozen, a logistic regression on its features"
    assert row.data.tags["mlflow.note.content"] == f"**straße und feld**\n\n{began}"

    for _ in range(2):  # a second time, as `osr tracking sync` may
        mirrored_photos(store, run_id)
        row = store.client.get_run(run_id)
        images = "1,200 images to train, 30 to validate, 40 to test"
        assert row.data.tags["mlflow.note.content"].split("\n\n") == [
            f"**straße und feld**: 3 known and 0 unknown classes; {images}",
            began,
            "knn accepts 95.0% of the knowns, rejects 12.0% of the unknowns by an estimate, accuracy 0.875",
            "Warnings first, then everything else: artifacts/report.html",
        ]
        (found,) = row.inputs.dataset_inputs
        assert (found.dataset.name, found.dataset.digest) == ("straße und feld", "0123456789abcdef")
        assert json.loads(found.dataset.source) == {"uri": "/data/straße und feld"}
    first = sorted(row.data.metrics)[:3]
    assert {name: row.data.metrics[name] for name in first} == {
        "Accepted": 0.95,
        "Accuracy": 0.875,
        "Rejected_estimate": 0.12,
    }


def test_what_a_reader_wrote_into_the_description_stays(store: Store) -> None:
    run_id = new_row(store, **PHOTOS)
    store.client.set_tag(run_id, "mlflow.note.content", "mine")
    mirrored_photos(store, run_id)
    assert store.client.get_run(run_id).data.tags["mlflow.note.content"] == "mine"


@pytest.mark.parametrize(
    ("called", "afterwards"),
    [("brave-shark-42", "straße und feld, resnet18, probe"), ("the one for Tuesday", "the one for Tuesday")],
)
def test_the_row_of_mlflow_run_gets_a_name_unless_it_has_one(
    store: Store, called: str, afterwards: str
) -> None:
    run_id = store.client.create_run(store.experiment, run_name=called).info.run_id
    enter(store, PHOTOS, run_id, owner=owner(), hardware="a machine")
    assert store.client.get_run(run_id).info.run_name == afterwards


def test_a_row_is_joined_only_while_its_ancestors_are_those_of_the_workspace(store: Store) -> None:
    run_id = new_row(store, lr=1)
    mirror(store.client, run_id, TRAIN, state="done")

    def found(params: dict[str, object], stage: str) -> str | None:
        row = find_for_stage(store, params, running=stage, present=["train"])
        return row and row.info.run_id

    assert found({"lr": 1}, "calibrate") is None, "somebody is at work on it"
    store.client.set_terminated(run_id, "FINISHED")
    assert found({"lr": 1}, "calibrate") == run_id
    assert found({"lr": 2}, "calibrate") is None, "other params"
    assert found({"lr": 1}, "train") is None, "a stage is logged once"
    TRAIN.metrics.write_text(json.dumps({"accuracy": 0.6}))
    assert found({"lr": 1}, "calibrate") is None, "trained again since"


def test_rows_of_dead_processes_are_closed(store: Store) -> None:
    host, pid, _ = owner().rsplit(":", 2)
    dead, alive = new_row(store, n=1), new_row(store, n=2)
    store.client.set_tag(
        dead, "osr.owner", f"{host}:{pid}:1.0"
    )  # the process id was given to another process
    store.client.set_tag(dead, "osr.stage.train", "running")
    connect(store.root)
    assert store.client.get_run(dead).info.status == "KILLED"
    assert store.client.get_run(dead).data.tags["osr.stage.train"] == "KILLED"
    assert store.client.get_run(alive).info.status == "RUNNING"


@pytest.mark.parametrize(("at_work", "status"), [(False, "KILLED"), (True, "RUNNING")])
def test_rows_that_mlflow_run_left_before_any_stage_are_closed(
    store: Store, monkeypatch: pytest.MonkeyPatch, at_work: bool, status: str
) -> None:
    """It makes its row first, then the environment, and leaves the row RUNNING when that fails."""
    command = ["python", "/somewhere/bin/mlflow", "run", "."] if at_work else ["mlflow", "server"]
    processes = [SimpleNamespace(info={"cmdline": words}) for words in (None, command)]
    tags = {"mlflow.project.entryPoint": "main", "mlflow.user": user()}
    left = store.client.create_run(store.experiment, tags=tags).info.run_id
    foreign = store.client.create_run(store.experiment, tags={**tags, "mlflow.user": "else"}).info.run_id
    monkeypatch.setattr("psutil.process_iter", lambda _attributes: processes)
    connect(store.root)
    assert store.client.get_run(left).info.status == status
    assert store.client.get_run(foreign).info.status == "RUNNING"


def test_owner_is_this_process() -> None:
    assert is_alive(owner())
    assert not is_alive("host:4194305:1.0")  # above the largest process id of Linux


def test_only_failures_of_the_store_are_survived(caplog: pytest.LogCaptureFixture) -> None:
    with store_may_fail("go on."):
        raise OSError("no route to host")
    assert "MLflow was not updated (OSError: no route to host); go on." in caplog.text
    with pytest.raises(KeyError), store_may_fail("go on."):
        raise KeyError("a defect")


def test_dvc_root_counts_in_temporary_copies_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "main" / ".dvc" / "tmp" / "exps" / "tmp1"
    other = tmp_path / "other"
    for folder in (copy, other):
        folder.mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    monkeypatch.chdir(copy)
    assert workspace_root() == tmp_path / "main"
    monkeypatch.chdir(other)
    assert workspace_root() == other


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", "[]", "\0", "<<<<<<< HEAD\n{}\n"])
def test_metrics_that_are_damaged_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """As a merge in git can leave them; `osr compare --files` reads them."""
    monkeypatch.chdir(tmp_path)
    path = STAGES["evaluate"].metrics
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InputError, match=r"^metrics/evaluate\.json is damaged"):
        final_metrics(STAGES["evaluate"])
