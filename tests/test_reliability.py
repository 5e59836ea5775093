"""What breaks in mid-run, and what it costs; writes the table of docs/reliability.md when all was tried."""

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from dvc_project import TIMEOUT_S, Project
from pages import write_section
from toy_project import STAGES, agrees, create, hang, is_complete
from tracking_server import Server

from pipeline.tracking.mirror import is_stored
from pipeline.workspace import stages as pipeline_stages

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NUM_SCENARIOS = len(STAGES) + 4
HEADING = "What breaks in mid-run, and what it costs"
INTRODUCTION = """\
`pytest -m slow -n 0 tests/test_reliability.py` breaks each of these in a project of six stages that compute
nothing, goes on as the third column says, looks at every file, row, curve and artifact, and writes this
table. Results are files first; MLflow mirrors them.

| what was broken | what was said | how it went on | lost |
|---|---|---|---|
"""
SYNC = "`osr tracking sync`"
NOT_UPDATED = "MLflow was not updated"


@pytest.fixture(scope="module")
def table():
    """The lines of the table; written once every scenario has passed."""
    lines = []
    yield lines
    if len(lines) == NUM_SCENARIOS:
        write_section(
            "reliability.md", HEADING, INTRODUCTION + "\n".join(f"| {' | '.join(line)} |" for line in lines)
        )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project = create(tmp_path_factory.mktemp("reliability") / "toy")
    project.dvc("repro", "-q")
    return project


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished project; MLflow keeps the artifacts where that one was made."""
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
    """Files, rows and artifacts that are not as an undisturbed run leaves them.

    Args:
        before: the results before.
        project: as it is now.
        edited: the stage whose code was edited, whose own files must differ now, and no others; None when
            only settings of other experiments differ.
    """
    now = results(project)
    own = {path.as_posix() for path in written(edited)} if edited else set()
    files = [name for name, content in before.items() if (now.get(name, content) == content) == (name in own)]
    files += [name for name in before if name not in now]
    rows = [row.info.run_id for row in project.rows() if not is_whole(project, row)]
    return ", ".join(sorted({*files, *rows})) or "nothing"


def is_whole(project, row):
    """Whether a row has all metrics and epochs, its figures and history, and weights that are there."""
    return (
        is_complete(row)
        and project.curve(row) == [0, 1, 2]
        and project.artifacts(row, "figures") == ["figures/one.txt"]
        and "artifacts/model/history.csv" in project.artifacts(row, "artifacts/model")
        and is_stored(project.client, row.data.tags["osr.checkpoint"])
    )


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
    process, pid = hang(project, "dvc", "repro", TOY_HANG=f"late-{stage}")
    os.kill(pid, signal.SIGKILL)
    assert process.wait(TIMEOUT_S) != 0
    said = project.dvc("repro")
    assert "its process is gone: set to KILLED" in said
    ran = re.findall(r"Running stage '(.*)'", said)
    assert ran[0] == stage
    if ran[-1] != STAGES[-1]:  # DVC saw that the last stages had nothing to do, and did not start them
        project.python("pipeline.cli", "tracking", "sync")
    assert len(project.rows()) == 2
    note(
        table,
        f"SIGKILL of {stage}",
        "row KILLED",
        f"`dvc repro`: {', '.join(ran)}{'' if ran[-1] == STAGES[-1] else '; ' + SYNC}; same row",
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
    found = workers(project)
    assert found
    for worker in found:
        worker.kill()
    wait_for(lambda: len(project.client.search_runs(["1"], "attributes.status = 'FINISHED'")) == 2)
    project.dvc("queue", "start")
    rows = project.rows()[1:]
    assert sorted(row.data.params["plot.dpi"] for row in rows) == ["61", "62"]
    listed = project.dvc("exp", "list", "--name-only").split()
    assert len(listed) == 1
    assert listed[0] in {row.data.tags["osr.experiment"] for row in rows}
    gone = lost(before, project, None)
    (unnamed,) = (row for row in rows if row.data.tags["osr.experiment"] not in listed)
    project.run("bash", "-euc", unnamed.data.tags["osr.restore"])
    assert agrees(project, unnamed)
    said = "the experiment at hand ended by itself; `dvc exp list` does not name it, its row has its way back"
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
    hanging = {"TOY_HANG": "late-train", "TOY_HANG_S": "10"}
    try:
        server.start()
        project.knob("train", "edited")
        log = tmp_path / "repro.log"
        process, _ = hang(project, "dvc", "repro", log=log, **away, **hanging)
        server.kill()
        assert process.wait(TIMEOUT_S) == 0
        said = told(log.read_text())
        server.start()
        project.python("pipeline.cli", "tracking", "sync", **away)
    finally:
        server.kill()
    assert len(project.rows()) == 2
    what = "SIGKILL of MLflow's server while training"
    note(table, what, said, f"stages ended; {SYNC}", lost(before, project, "train"))


def told(said, cause=""):
    """What a user reads when the store fails, and why it did."""
    assert NOT_UPDATED in said
    assert cause in said
    return f"*{NOT_UPDATED}*" + (f" (*{cause}*)" if cause else "")


def test_a_read_only_store(project, table):
    before = results(project)
    project.knob("plot", "edited")
    with read_only(project.root / "mlflow.db") as means:
        said = told(project.dvc("repro"), "attempt to write a readonly database")
    assert len(project.rows()) == 1
    project.python("pipeline.cli", "tracking", "sync")
    assert len(project.rows()) == 2
    note(table, f"a read-only store ({means})", said, f"stages ended; {SYNC}", lost(before, project, "plot"))


@contextlib.contextmanager
def read_only(file):
    """Let nobody write to a file; yields the means: permissions do not stop root, a mount does."""
    if os.geteuid() != 0:
        file.chmod(stat.S_IRUSR)
        yield "its permissions"
        file.chmod(stat.S_IRUSR | stat.S_IWUSR)
        return
    if not mounted("--bind", str(file), str(file)):
        pytest.skip("root can be kept from writing only by a mount, which is not allowed here")
    try:
        assert mounted("-o", "remount,ro,bind", str(file))
        yield "mounted so"
    finally:
        subprocess.run(["umount", str(file)], check=True)


def mounted(*arguments):
    return subprocess.run(["mount", *arguments], check=False).returncode == 0


def test_a_full_artifact_disk(tmp_path, table):
    project = create(tmp_path / "toy")
    project.dvc("repro", "-q")
    before = results(project)
    disk, kept = project.root / "mlartifacts", project.root / "kept"
    disk.rename(kept)
    disk.mkdir()
    if not mounted("-t", "tmpfs", "-o", "size=1m", "full", str(disk)):
        kept.rename(disk)
        pytest.skip("a small disk can be mounted by root only")
    try:
        shutil.copytree(kept, disk, dirs_exist_ok=True)
        fill(disk / "filler")
        project.knob("train", "edited")
        said = told(project.dvc("repro"), "No space left on device")
        assert mounted("-o", "remount,size=10m", str(disk))
        project.python("pipeline.cli", "tracking", "sync")
        assert len(project.rows()) == 2
        gone = lost(before, project, "train")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    note(table, "a full artifact disk (of 1 MB)", said, f"stages ended; make room; {SYNC}", gone)


def fill(file):
    """Write until the disk is full."""
    with file.open("wb", buffering=0) as opened, contextlib.suppress(OSError):
        while True:
            opened.write(bytes(1 << 12))
