"""The commit, changed files and settings that the report names."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import finished_run

from osr.params import check_params
from pipeline.report import page as report
from pipeline.report.code_state import CodeState, code_state

PARAMS = finished_run.params_of(Path(__file__).parents[1])


def test_unknown_sources_stand_as_in_the_settings():
    assert report._setting([{"source": "far", "name": "svhn", "root": None, "csv": {"file": None}}]) == (
        "[{source: far, name: svhn}]"
    )


def test_settings_as_committed_are_no_change():
    settings = PARAMS.model_dump(mode="json")
    settings["dataset"]["unknown_sources"] = [{"source": "far", "name": "csv", "csv": {"file": "far.csv"}}]
    run = SimpleNamespace(params=check_params(settings, source="test"))
    assert report._changed(run, CodeState("c", (), settings)) == {}
    other = settings | {"plot": settings["plot"] | {"dpi": 7}}
    assert report._changed(run, CodeState("c", (), other)) == {"plot.dpi": (60, 7)}


def test_code_state_is_the_last_commit_that_touched_the_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_state().commit == ""
    assert code_state().settings is None

    def git(*arguments):
        identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
        done = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    for name, text in (("osr/a.py", "1"), ("params.yaml", "train: {lr: 1e-3}"), ("README.md", "x")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    git("add", "-A")
    git("commit", "-qm", "first")
    first = git("rev-parse", "HEAD")
    (tmp_path / "README.md").write_text("y")
    git("commit", "-qam", "words")
    (tmp_path / "params.yaml").write_text("train: {lr: 2}")
    assert code_state().commit == first
    assert code_state().changed == ()
    assert code_state().settings == {"train": {"lr": 1e-3}}
    (tmp_path / "osr" / "b.py").write_text("2")
    assert code_state().changed == ("osr/b.py",)
