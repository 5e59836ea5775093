"""Whole executions of a DVC project that computes nothing (tests/tracking_project), and their rows."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from dvc_project import TIMEOUT_S, Project, states
from ruamel.yaml import YAML
from toy_project import STAGES, create, hang, is_complete

MLFLOW_RUN = ("mlflow", "run", ".", "--env-manager", "local")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after its first `dvc repro`; a path with a blank, as paths have."""
    project = create(tmp_path_factory.mktemp("tracking") / "toy project")
    project.dvc("repro", "-q")
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project."""
    shutil.copytree(finished.root, tmp_path / "toy project", symlinks=True)
    return Project(tmp_path / "toy project")


def test_first_execution_is_one_complete_row(finished: Project) -> None:
    (row,) = finished.rows()
    assert is_complete(row)
    assert states(row) == dict.fromkeys(STAGES, "done")
    assert finished.curve(row) == [0, 1, 2]
    assert row.data.params["detectors.energy.temperature"] == "1.0"
    assert row.data.params["split.known"] == "[]"
    tags = row.data.tags
    assert "torch " in tags["osr.versions"]
    assert "cores" in tags["osr.hardware"]
    assert tags["mlflow.source.git.commit"] == finished.run("git", "rev-parse", "HEAD").strip()
    assert tags["osr.git.dirty"] == "false"
    assert float(tags["osr.split.digest"]) == pytest.approx(
        row.data.metrics["number/prepare-split"], abs=1e-6
    )
    assert finished.artifacts(row, "figures") == ["figures/one.txt"]
    weights = "artifacts/model/model.safetensors"
    assert finished.artifacts(row, "artifacts/model") == ["artifacts/model/history.csv", weights]
    assert tags["osr.checkpoint"].startswith(f"runs:/{row.info.run_id}/{weights} sha256:")


def test_only_what_changed_runs_and_the_new_row_is_complete_all_the_same(project: Project) -> None:
    project.dvc("repro")
    assert len(project.rows()) == 1

    project.knob("evaluate", "edited")
    project.dvc("repro")
    first, second = project.rows()
    assert is_complete(second)
    assert states(second) == dict.fromkeys(STAGES, "cached") | {"evaluate": "done", "plot": "done"}
    assert project.curve(second) == [0, 1, 2]
    assert second.data.params == first.data.params
    assert second.data.metrics["number/train"] == first.data.metrics["number/train"]
    assert second.data.metrics["number/evaluate"] != first.data.metrics["number/evaluate"]
    assert second.data.tags["osr.git.dirty"] == "true"
    assert second.data.tags["osr.git.dirty_files"] == "knobs/evaluate"
    assert second.data.tags["osr.checkpoint"] == first.data.tags["osr.checkpoint"]
    assert project.artifacts(second, "artifacts/model") == ["artifacts/model/history.csv"]


def test_forced_execution_is_a_new_row(project: Project) -> None:
    project.dvc("repro", "--force", "--single-item", "train")
    _, second = project.rows()
    assert states(second) == {"prepare-split": "cached", "train": "done"}
    assert project.curve(second) == [0, 1, 2]


def recorded_outputs(lock: Path) -> dict[str, list]:
    """What a dvc.lock says of the outputs of each stage."""
    stages = YAML(typ="safe", pure=True).load(lock)["stages"]
    return {name: entry["outs"] for name, entry in stages.items()}


def results(project: Project) -> dict[Path, bytes]:
    """Content of every result file."""
    folders = [project.root / name for name in ("artifacts", "figures", "metrics")]
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.mark.ci
def test_a_row_says_how_its_files_come_back_and_that_works(project: Project) -> None:
    project.knob("evaluate", "edited")
    (project.root / "new.py").write_text("a new file")
    project.dvc("repro")
    wanted = results(project)
    _, row = project.rows()
    commit = project.run("git", "rev-parse", "HEAD").strip()
    way = row.data.tags["osr.restore"]
    assert way.split(" && ") == [
        "git stash --include-untracked",
        f"git checkout {commit}",
        f"mlflow artifacts download --run-id {row.info.run_id} --dst-path . --artifact-path metrics",
        "mv metrics/dvc.lock .",
        "git apply metrics/changes.patch",
        "rm metrics/changes.patch",
        "dvc checkout",
    ]
    lock = project.client.download_artifacts(row.info.run_id, "metrics/dvc.lock", str(project.root.parent))
    assert recorded_outputs(Path(lock)) == recorded_outputs(project.root / "dvc.lock"), "as DVC writes it"

    project.run("git", "checkout", "-q", "-f", commit)
    (project.root / "new.py").unlink()
    project.dvc("repro", "-q", "--force")
    assert results(project) != wanted
    shutil.rmtree(project.root / ".dvc" / "cache" / "runs")
    project.knob("plot", "a later edit")
    project.run("bash", "-euc", way)
    assert results(project) == wanted
    assert "+a later edit" in project.run("git", "stash", "show", "-p"), "no edit is lost"
    assert (project.root / "knobs/evaluate").read_text() == "edited"
    assert (project.root / "new.py").read_text() == "a new file"


@pytest.mark.ci
def test_experiment_is_a_row_with_its_name_and_sync_adds_none(project: Project) -> None:
    project.dvc("exp", "run", "-n", "sharp", "-S", "plot.dpi=99")
    assert "already holds" in project.python("pipeline.cli", "tracking", "sync")
    _, second = project.rows()
    assert is_complete(second)
    assert second.data.tags["osr.experiment"] == "sharp"
    assert second.info.run_name == "digits A 0, small_convnet, ce (sharp)"
    assert second.data.params["plot.dpi"] == "99"

    wanted = results(project)
    project.run("git", "checkout", "-q", "-f", "HEAD")
    project.dvc("checkout", "-q")
    project.dvc("repro", "-q")
    assert results(project) != wanted
    project.dvc("exp", "apply", "sharp")
    assert results(project) == wanted
    assert "dpi: 99" in (project.root / "params.yaml").read_text()


@pytest.mark.slow  # tests/test_sweep.py starts a queue with two workers, beside a database
def test_queue_with_two_workers_that_start_on_no_database(project: Project) -> None:
    (project.root / "mlflow.db").unlink()
    project.dvc("exp", "run", "--queue", "-S", "plot.dpi=97,98,99")
    # The workers inherit the pipe that this waits for, so it returns when the last of them ends.
    project.dvc("queue", "start", "-j", "2")
    rows = project.rows()
    assert sorted(row.data.params["plot.dpi"] for row in rows) == ["97", "98", "99"]
    assert all(is_complete(row) and project.curve(row) == [0, 1, 2] for row in rows)
    assert all(row.info.run_name.endswith(f"({row.data.tags['osr.experiment']})") for row in rows)
    # The rows came from temporary copies that are gone by now; their artifacts, and those to come, are not.
    assert all(project.artifacts(row, "figures") == ["figures/one.txt"] for row in rows)
    assert project.client.get_experiment("0").artifact_location == f"{project.root}/mlruns/0"

    project.run("bash", "-euc", rows[0].data.tags["osr.restore"])
    made = json.loads((project.root / "metrics/plot.json").read_text())
    assert made["number"]["plot"] == pytest.approx(rows[0].data.metrics["number/plot"])


@pytest.mark.ci
def test_mlflow_run_fills_its_own_row(project: Project) -> None:
    project.python(
        *MLFLOW_RUN, "-P", "preset=fine", "-P", "overrides=plot.gallery_images=1 plot.tsne_perplexity=5.0"
    )
    _, changed = project.rows()
    assert is_complete(changed)
    assert (changed.data.params["plot.dpi"], changed.data.params["plot.tsne_perplexity"]) == ("99", "5.0")
    assert states(changed) == dict.fromkeys(STAGES, "cached") | {"plot": "done"}


@pytest.mark.slow  # `mlflow run` takes ten seconds to start
def test_mlflow_run_of_a_stage_goes_no_further_and_lands_in_the_named_experiment(project: Project) -> None:
    overrides = ("-P", "overrides=calibrate.folds=9")
    project.python(*MLFLOW_RUN, "-e", "calibrate", "--experiment-name", "osr", *overrides)
    _, row = project.rows()
    up_to_date = dict.fromkeys(("prepare-split", "train", "fit-openmax"), "cached")
    assert states(row) == up_to_date | {"calibrate": "done"}, "evaluate and plot did not run"
    assert row.info.status == "FINISHED"
    assert row.info.experiment_id == project.client.get_experiment_by_name("osr").experiment_id


@pytest.mark.ci
def test_mlflow_run_fails_when_a_stage_cannot_even_start(project: Project) -> None:
    project.knob("plot", "crash")
    project.python(*MLFLOW_RUN, status=1)
    _, row = project.rows()
    assert row.info.status == "FAILED"
    assert row.data.tags["osr.launch"] == "FAILED: DVC ended with exit status 255"


def test_failed_stage_continues_its_row_when_it_is_repaired(project: Project) -> None:
    project.knob("plot", "raise")
    assert "the knob says so" in project.dvc("repro", status=255)
    _, row = project.rows()
    assert row.info.status == "FAILED"
    assert states(row)["plot"] == "FAILED: RuntimeError: the knob says so"

    project.knob("plot", "repaired")
    project.dvc("repro")
    _, again = project.rows()
    assert again.info.run_id == row.info.run_id
    assert is_complete(again)
    assert states(again)["plot"] == "done"


def kill_training(project: Project, **env: str) -> None:
    process, stage = hang(project, "dvc", "repro", **env)
    os.kill(stage, signal.SIGKILL)
    assert process.wait(TIMEOUT_S) != 0
    wait_for_keepers(project)


def wait_for_keepers(project: Project) -> None:
    """Until the process beside the killed stage has sent what it had."""
    deadline = time.monotonic() + TIMEOUT_S
    while any(
        any(word.endswith("forkserver.py") for word in process.info["cmdline"] or ())
        and process.info["cwd"] == str(project.root)
        for process in psutil.process_iter(["cmdline", "cwd"])
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.ci
def test_killed_training_continues_its_row(project: Project) -> None:
    project.knob("train", "edited")
    kill_training(project, TOY_HANG="late-train")
    project.dvc("repro", "calibrate")
    _, row = project.rows()
    assert row.info.status == "FINISHED"
    assert states(row) == {"prepare-split": "cached", "train": "done", "calibrate": "done"}
    assert project.curve(row) == [0, 1, 2], "no epoch stands in the curve twice"


@pytest.mark.ci
def test_killed_training_that_begins_anew_with_other_numbers_is_a_new_row(project: Project) -> None:
    project.knob("train", "late-hang")
    kill_training(project)
    project.knob("train", "repaired")
    project.dvc("repro", "calibrate")
    _, killed, retried = project.rows()
    assert killed.info.status == "KILLED"
    assert states(killed)["train"] == f"KILLED: begun anew in row {retried.info.run_id}"
    assert project.curve(killed) == [0, 1, 2]
    assert project.curve(retried) == [0, 1, 2]
    assert retried.info.status == "FINISHED"
    assert states(retried) == {"prepare-split": "cached", "train": "done", "calibrate": "done"}


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_signal_closes_the_row_and_sends_every_epoch(
    project: Project, sent: signal.Signals, status: int
) -> None:
    project.knob("train", "late-hang")
    process, stage = hang(project, "toy", "train")
    os.kill(stage, sent)
    assert process.wait(TIMEOUT_S) == status
    *_, row = project.rows()
    assert row.info.status == states(row)["train"] == "KILLED"
    assert project.curve(row) == [0, 1, 2]


@pytest.mark.ci
def test_unreachable_store_costs_no_result_and_sync_catches_up(project: Project) -> None:
    project.knob("plot", "edited")
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    said = project.dvc("repro", **away)
    assert "MLflow was not updated" in said
    assert "the results are safe as files" in said
    project.python("pipeline.cli", "tracking", "sync", status=1, **away)
    assert len(project.rows()) == 1

    project.python("pipeline.cli", "tracking", "sync")
    _, synced = project.rows()
    assert is_complete(synced)
    assert states(synced) == dict.fromkeys(STAGES, "cached")
    assert project.curve(synced) == [0, 1, 2]


@pytest.mark.ci
def test_sync_adds_no_row_for_settings_that_nothing_was_run_with(project: Project) -> None:
    file = project.root / "params.yaml"
    file.write_text(file.read_text().replace("batch_size: 64", "batch_size: 48"))
    said = project.python("pipeline.cli", "tracking", "sync")
    assert "no row was added to MLflow: `osr run` has yet to run train, calibrate, fit-openmax, " in said
    assert len(project.rows()) == 1


def test_off_imports_no_mlflow(project: Project) -> None:
    program = "import sys, toy; toy.run('plot'); sys.exit('mlflow' in sys.modules)"
    project.run(sys.executable, "-c", program, OSR_TRACKING="off")
    assert len(project.rows()) == 1
