"""What breaks in mid-run, and what it costs; writes the table of docs/reliability.md when all was tried."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from dvc_project import TIMEOUT_S, Project
from toy_project import STAGES, create, hang, is_complete
from tracking_server import Server

from pipeline import stages as pipeline_stages

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
NUM_SCENARIOS = len(STAGES) + 4
INTRODUCTION = """\
# What breaks, and what it costs

`pytest -m slow -n 0 tests/test_reliability.py` breaks each of these in a project of six stages that compute
nothing, goes on as the third column says, looks at every file and every row, and writes this table. Results
are files first; MLflow mirrors them.

| what was broken | what was said | how it went on | lost |
|---|---|---|---|
"""
SYNC = "`python -m pipeline.tracking sync`"
NOT_UPDATED = "MLflow was not updated"


@pytest.fixture(scope="module")
def table():
    """The lines of the table; written once every scenario has passed."""
    lines = []
    yield lines
    if len(lines) == NUM_SCENARIOS:
        PAGE.write_text(INTRODUCTION + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project = create(tmp_path_factory.mktemp("reliability") / "toy")
    project.dvc("repro", "-q")
    return project


@pytest.fixture
def project(finished, tmp_path):
    shutil.copytree(finished.root, tmp_path / "toy", symlinks=True)
    return Project(tmp_path / "toy")


def results(project):
    """Content of every result file."""
    return {
        path.relative_to(project.root).as_posix(): path.read_bytes()
        for folder in ("artifacts", "figures", "metrics")
        for path in (project.root / folder).rglob("*")
        if path.is_file()
    }


def lost(before, project, edited):
    """Files and rows that are not as an undisturbed run leaves them: only the edited stage's files changed.

    Args:
        before: the results before.
        project: as it is now.
        edited: the stage whose code was edited; None when only settings of other experiments differ.
    """
    now = results(project)
    own = {path.as_posix() for path in written(edited)} if edited else set()
    files = [name for name, content in before.items() if (now.get(name, content) == content) == (name in own)]
    files += [name for name in before if name not in now]
    rows = [
        row.info.run_id for row in project.rows() if not is_complete(row) or project.curve(row) != [0, 1, 2]
    ]
    return ", ".join(sorted({*files, *rows})) or "nothing"


def written(name):
    """The files that a stage of the toy project writes."""
    stage = pipeline_stages.STAGES[name]
    outs = [*stage.artifacts, *filter(None, [stage.checkpoint])]
    return [stage.metrics, *(path if path.suffix else path / "one.txt" for path in outs)]


def note(table, *line):
    """Add a line; the scenario fails when something was lost."""
    table.append(line)
    assert line[-1] == "nothing"


@pytest.mark.parametrize("stage", STAGES)
def test_sigkill_of_a_stage(project, table, stage):
    before = results(project)
    project.knob(stage, "edited")
    process, pid = hang(project, "dvc", "repro", TOY_HANG=stage)
    os.kill(pid, signal.SIGKILL)
    assert process.wait(TIMEOUT_S) != 0
    said = project.dvc("repro")
    assert "its process is gone: set to KILLED" in said
    ran = re.findall(r"Running stage '(.*)'", said)
    assert ran[0] == stage
    assert len(project.rows()) == 2
    note(
        table,
        f"SIGKILL of {stage}",
        "row KILLED",
        f"`dvc repro`: {', '.join(ran)}; same row",
        lost(before, project, stage),
    )


def test_sigkill_of_a_queue_worker(project, table):
    before = results(project)
    project.dvc("exp", "run", "--queue", "-q", "-S", "plot.dpi=61,62")
    environment = project.environment() | {"TOY_HANG": "plot", "TOY_HANG_S": "20"}
    command = [sys.executable, "-m", "dvc", "queue", "start"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, cwd=project.root, env=environment, check=True, **quiet)
    wait_for(lambda: list((project.root / ".dvc/tmp/exps").rglob("hanging")))
    for worker in workers(project):
        worker.kill()
    wait_for(lambda: len(project.client.search_runs(["1"], "attributes.status = 'FINISHED'")) == 2)
    said = "the experiment at hand ended by itself"
    project.dvc("queue", "start")
    found = [row.data.params["plot.dpi"] for row in project.rows()[1:]]
    assert sorted(found) == ["61", "62"]
    gone = lost(before, project, None)
    note(table, "SIGKILL of a queue worker", said, "`dvc queue start`: the rest of the queue", gone)


def wait_for(condition):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def workers(project):
    """The queue workers of this project."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = " ".join(process.info["cmdline"] or ())
        if "queue-worker" in words and str(process.info["cwd"]).startswith(str(project.root)):
            found.append(process)
    return found


def test_sigkill_of_the_server(project, table, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    before = results(project)
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder, SimpleNamespace(uri=f"sqlite:///{project.root}/mlflow.db", environment={}))
    away = {"MLFLOW_TRACKING_URI": server.uri}
    try:
        server.start()
        project.knob("train", "edited")
        project.dvc("repro", "-q", "train", **away)
        server.kill()
        said = told(project.dvc("repro", **away))
        server.start()
        project.python("pipeline.tracking", "sync", **away)
    finally:
        server.kill()
    assert len(project.rows()) == 2
    note(table, "SIGKILL of MLflow's server", said, f"stages ended; {SYNC}", lost(before, project, "train"))


def told(said):
    """What a user reads when the store fails."""
    assert NOT_UPDATED in said
    return f"*{NOT_UPDATED}*"


def test_a_read_only_store(project, table):
    before = results(project)
    project.knob("plot", "edited")
    locked = {"MLFLOW_TRACKING_URI": f"sqlite:///file:{project.root}/mlflow.db?mode=ro&uri=true"}
    said = told(project.dvc("repro", **locked))
    assert len(project.rows()) == 1
    project.python("pipeline.tracking", "sync")
    assert len(project.rows()) == 2
    note(table, "a read-only store", said, f"stages ended; {SYNC}", lost(before, project, "plot"))


def test_a_full_artifact_disk(project, table):
    before = results(project)
    disk = project.root / "mlartifacts"
    shutil.rmtree(disk)
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "full", str(disk)], check=False).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        (disk / "filler").write_bytes(bytes(1 << 12))
        project.knob("plot", "edited")
        answer = project.dvc("repro")
        assert "No space left on device" in answer
        said = told(answer)
        subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
        project.python("pipeline.tracking", "sync")
        assert len(project.rows()) == 2
        gone = lost(before, project, "plot")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    note(table, "a full artifact disk", said, f"stages ended; make room; {SYNC}", gone)
