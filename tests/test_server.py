"""Rows that go to an MLflow server with PostgreSQL behind it, and many writers at once."""

import importlib.util
import json
from pathlib import Path

import pytest
from dvc_project import Project, states
from mlflow.tracking import MlflowClient
from toy_project import STAGES, create, is_complete
from tracking_server import program, running

pytestmark = pytest.mark.slow

NUM_EXPERIMENTS = 24
NUM_JOBS = 4
QUEUE_S = 3000


class Served(Project):
    """A project whose rows go to a server."""

    def __init__(self, root, uri):
        super().__init__(root)
        self.uri = uri

    @property
    def client(self):
        return MlflowClient(self.uri)

    def environment(self):
        return super().environment() | {"MLFLOW_TRACKING_URI": self.uri}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if program("initdb") is None or importlib.util.find_spec("psycopg2") is None:
        pytest.skip("needs PostgreSQL (apt-get install postgresql) and psycopg2 (requirements-dev.txt)")
    with running(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def served(server, tmp_path, monkeypatch):
    """A project of its own experiment on the server, after its first execution."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    create(tmp_path / "toy")
    project = Served(tmp_path / "toy", server.uri)
    project.dvc("repro", "-q")
    return project


def own_rows(project):
    """The rows that this project made: other tests use the same server."""
    return [row for row in project.rows() if row.data.tags["mlflow.source.name"] == str(project.root)]


def queue_many(project):
    """Run 24 experiments with four workers; returns what the workers and stages printed."""
    project.timeout_s = QUEUE_S
    dpi = ",".join(str(50 + number) for number in range(NUM_EXPERIMENTS))
    project.dvc("exp", "run", "--queue", "-q", "-S", f"plot.dpi={dpi}")
    project.dvc("queue", "start", "-j", str(NUM_JOBS))
    logs = [path.read_text() for path in (project.root / ".dvc/tmp/exps/run").rglob("*.out")]
    assert len(logs) == NUM_EXPERIMENTS
    return "\n".join(logs)


def assert_nothing_lost(project, first, said, folder):
    """Each experiment is one complete row, its files are in the row, and DVC can apply it."""
    for trouble in ("database is locked", "MLflow was not updated", "Traceback"):
        assert trouble not in said
    rows = [row for row in own_rows(project) if row.info.run_id != first.info.run_id]
    assert sorted(int(row.data.params["plot.dpi"]) for row in rows) == [
        50 + number for number in range(NUM_EXPERIMENTS)
    ]
    names = project.dvc("exp", "list", "--name-only").split()
    assert sorted(row.data.tags["osr.experiment"] for row in rows) == sorted(names)
    for row in rows:
        assert is_complete(row)
        assert states(row) == dict.fromkeys(STAGES, "cached") | {"plot": "done"}
        assert project.curve(row) == [0, 1, 2]
        number = row.data.metrics["number/plot"]
        file = project.client.download_artifacts(row.info.run_id, "figures/one.txt", str(folder))
        assert json.loads(Path(file).read_text()) == {"digest": f"{number:.6f}"}


def test_many_experiments_in_one_sqlite_file(tmp_path):
    project = create(tmp_path / "toy")
    project.dvc("repro", "-q")
    (first,) = project.rows()
    assert_nothing_lost(project, first, queue_many(project), tmp_path)


def test_rows_and_files_of_a_server(served, tmp_path):
    (row,) = own_rows(served)
    assert is_complete(row)
    assert not (served.root / "mlflow.db").exists()
    assert row.info.artifact_uri.startswith("mlflow-artifacts:")
    assert not (served.root / "mlartifacts").exists()
    file = served.client.download_artifacts(
        row.info.run_id, "artifacts/model/model.safetensors", str(tmp_path)
    )
    assert Path(file).read_bytes() == (served.root / "artifacts/model/model.safetensors").read_bytes()


def test_a_server_that_dies_in_mid_run_costs_nothing(served, server):
    served.knob("train", "edited")
    served.dvc("repro", "-q", "train")
    server.kill()
    try:
        said = served.dvc("repro")
    finally:
        server.start()
    assert "MLflow was not updated" in said
    served.python("pipeline.cli", "tracking", "sync")
    _, row = own_rows(served)
    assert is_complete(row)
    assert served.curve(row) == [0, 1, 2]


def test_many_experiments_on_a_server(served, tmp_path):
    (first,) = own_rows(served)
    assert_nothing_lost(served, first, queue_many(served), tmp_path)
