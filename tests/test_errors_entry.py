"""How a stage ends: bad input is one sentence and status 1, and earlier results stay whatever happens."""

import errno
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from dvc_project import commit_all
from toy_project import ROOT, Project

from osr.errors import InputError
from osr.params import Params
from pipeline.entry import Metrics, run_stage
from pipeline.tracking.stage_run import Row
from pipeline.workspace.files import write_json
from pipeline.workspace.stages import SPLIT
from pipeline.workspace.swap import ASIDE, new

STAGE = "prepare-split"
METRICS = Path("metrics/prepare-split.json")
DVC_YAML = """\
stages:
  prepare-split:
    cmd: python toy.py
    deps: [knob]
    outs: [artifacts/split: {persist: true}]
    metrics:
      - metrics/prepare-split.json:
          cache: false
          persist: true
"""
TOY = """\
from pathlib import Path

from osr.errors import InputError
from pipeline.entry import run_stage
from pipeline.workspace.stages import SPLIT
from pipeline.workspace.swap import new


def body(params, row):
    knob, folder = Path("knob").read_text(), new(SPLIT)
    (folder / "deep").mkdir(parents=True, exist_ok=True)
    (folder / "deep" / "a.txt").write_text(knob)
    (folder / f"{knob}.txt").write_text(knob)
    if knob == "bad":
        raise InputError("The knob must not be 'bad'.")
    if knob == "crash":
        raise RuntimeError("crashed")
    return {"knob": knob}


run_stage("prepare-split", body, "A toy.")
"""
ENVIRONMENT = {"OSR_TRACKING": "off", "PYTHONPATH": str(ROOT)}


def contents(root: Path) -> dict[str, str]:
    """Every file below artifacts and metrics."""
    files = [file for name in ("artifacts", "metrics") for file in (root / name).rglob("*") if file.is_file()]
    return {
        file.relative_to(root).as_posix(): file.read_text() for file in files if file.name != ".gitignore"
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy DVC project whose one stage has run."""
    root = tmp_path_factory.mktemp("entry") / "project"
    root.mkdir()
    for name, text in {"toy.py": TOY, "dvc.yaml": DVC_YAML, "knob": "good"}.items():
        (root / name).write_text(text)
    shutil.copy(ROOT / "params.yaml", root)
    Project(root).dvc("init", "-q", "--no-scm")
    Project(root).dvc("repro", **ENVIRONMENT)
    assert contents(root) == {
        "artifacts/split/deep/a.txt": "good",
        "artifacts/split/good.txt": "good",
        "metrics/prepare-split.json": '{\n  "knob": "good"\n}\n',
    }
    return root


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the finished project, which is the working directory."""
    root = tmp_path / "project"
    shutil.copytree(finished, root)
    monkeypatch.chdir(root)
    for key, value in ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(sys, "argv", ["toy"])
    return Project(root)


def break_settings(project: Project) -> None:
    file = project.root / "params.yaml"
    file.write_text(re.sub(r"( epochs:) \d+", r"\1 many", file.read_text()))


def never(_params: Params, _row: Row) -> Metrics:
    raise AssertionError("the stage must not start")


def test_bad_settings_stop_a_stage_before_it_touches_a_file(project: Project) -> None:
    before = contents(project.root)
    break_settings(project)
    done = subprocess.run(
        [sys.executable, "toy.py"],
        env=project.environment() | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "ERROR: params.yaml: train.epochs is 'many', but must be a whole number.\n"
    assert done.stdout == ""
    assert contents(project.root) == before


def test_bad_input_in_a_running_stage_keeps_earlier_results(project: Project) -> None:
    before = contents(project.root)
    (project.root / "knob").write_text("bad")
    output = project.dvc("repro", status=255, **ENVIRONMENT)
    assert output.count("ERROR: The knob must not be 'bad'.\n") == 1
    assert "Traceback" not in output
    assert "WARNING" not in output
    assert contents(project.root) == before
    (project.root / "knob").write_text("better")
    project.dvc("repro", **ENVIRONMENT)
    assert contents(project.root)["artifacts/split/better.txt"] == "better"


def test_a_crash_keeps_its_traceback_and_earlier_results(project: Project) -> None:
    before = contents(project.root)
    (project.root / "knob").write_text("crash")
    output = project.dvc("repro", status=255, **ENVIRONMENT)
    assert "Traceback" in output
    assert "RuntimeError: crashed" in output
    assert contents(project.root) == before


@pytest.mark.parametrize(
    ("error", "seen"),
    [(KeyboardInterrupt(), SystemExit), (SystemExit(143), SystemExit), (MemoryError(), MemoryError)],
)
def test_whatever_ends_a_stage_earlier_results_stay(
    project: Project, error: BaseException, seen: type[BaseException]
) -> None:
    before = contents(project.root)

    def body(_params: Params, _row: Row) -> Metrics:
        new(SPLIT).write_text("half")  # a file where a folder was
        raise error

    with pytest.raises(seen):
        run_stage(STAGE, body, None)
    assert contents(project.root) == before


@pytest.mark.usefixtures("project")
def test_an_interruption_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def body(_params: Params, _row: Row) -> Metrics:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run_stage(STAGE, body, None)
    assert ended.value.code == 130
    assert capsys.readouterr().err.endswith(f"{STAGE} was interrupted; the next `osr run` goes on with it.\n")


def test_a_stage_that_ends_well_leaves_what_it_wrote_and_nothing_else(project: Project) -> None:
    def body(params: Params, _row: Row) -> Metrics:
        new(SPLIT).mkdir()
        (new(SPLIT) / "one.txt").write_text("changed")
        return {"seed": params.split.seed, "share": float("nan"), "deep": {"list": [1, float("nan")]}}

    run_stage(STAGE, body, None)
    assert list(contents(project.root)) == ["artifacts/split/one.txt", METRICS.as_posix()]
    assert not list(ASIDE.iterdir())
    assert json.loads(METRICS.read_text()) == {"seed": 0, "share": None, "deep": {"list": [1, None]}}


def test_bad_input_is_the_exit_message(project: Project) -> None:
    def body(_params: Params, _row: Row) -> Metrics:
        raise InputError("No such thing.")

    with pytest.raises(SystemExit) as ended:
        run_stage(STAGE, body, None)
    assert ended.value.code == "ERROR: No such thing."
    assert contents(project.root)["artifacts/split/good.txt"] == "good"


@pytest.mark.parametrize(
    ("error", "free"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "artifacts/model"), 10**9),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 10**9),
        (OSError("38400 requested and 0 written"), 4096),  # NumPy's, without a number
        (RuntimeError("PytorchStreamWriter failed writing file"), 0),
    ],
)
def test_a_full_disk_is_the_exit_message(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: Exception, free: int
) -> None:
    before = contents(project.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))

    def body(_params: Params, _row: Row) -> Metrics:
        new(SPLIT).write_text("half")
        raise error

    with pytest.raises(SystemExit) as ended:
        run_stage(STAGE, body, None)
    assert ended.value.code == (
        f"ERROR: the disk is full ({error}); make room, and the next `osr run` goes on with {STAGE}."
    )
    assert contents(project.root) == before
    assert not (ASIDE / STAGE / "new").exists()


def test_bad_settings_in_a_fresh_clone_keep_the_committed_metrics(project: Project, tmp_path: Path) -> None:
    (project.root / ".gitignore").write_text("artifacts/\n.dvc/cache/\n.dvc/tmp/\n")
    commit_all(project, "a run")
    project.run("git", "clone", "-q", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    before = contents(clone.root)
    assert list(before) == [METRICS.as_posix()]
    break_settings(clone)
    clone.dvc("repro", status=255, **ENVIRONMENT)
    assert contents(clone.root) == before
    assert clone.run("git", "status", "--short") == " M params.yaml\n"


def test_outside_a_project_the_error_is_still_the_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["toy"])
    with pytest.raises(SystemExit) as ended:
        run_stage(STAGE, never, None)
    assert str(ended.value.code).startswith("ERROR: params.yaml is missing: ")
    assert not list(tmp_path.iterdir())


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "numbers.json"
    write_json(path, {"b": 1.5, "a": {"c": float("nan")}})
    assert path.read_text() == '{\n  "a": {\n    "c": null\n  },\n  "b": 1.5\n}\n'
    for bad in ({"a": float("inf")}, {"a": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, bad)
    assert json.loads(path.read_text())["b"] == 1.5
    assert [file.name for file in path.parent.iterdir()] == ["numbers.json"]


def test_help_names_the_stage_and_where_settings_stand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["toy", "--help"])
    with pytest.raises(SystemExit) as ended:
        run_stage(STAGE, never, "What it does.")
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "dvc repro prepare-split" in text
    assert "What it does." in text
    assert "params.yaml; override one with `dvc exp run -S key=value`" in text
