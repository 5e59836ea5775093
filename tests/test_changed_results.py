"""Numbers of a project folder carry the settings that made them, or the sentence that they cannot."""

import json
import shutil
from pathlib import Path

import pytest
from compared_runs import ROOT, trials
from recorded_run import record
from test_merge import folder, marked

from osr.errors import InputError
from pipeline import cli
from pipeline.tracking.other_stores import read_source
from pipeline.tracking.results import read_files

LOGITNORM = "train.loss (now 'logitnorm', then 'ce')"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    made = folder(tmp_path / "theirs", marked(trials(0.9)[0]))
    monkeypatch.chdir(made)
    return made


def change(old, new):
    path = Path("params.yaml")
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("words", [["leaderboard", "merge", "."], ["compare", "--files"]])
def test_a_setting_that_was_changed_since_is_refused(words, capsys):
    read_files()
    change("  loss: ce\n", "  loss: logitnorm\n")
    for condition in ("train.loss=ce", "train.loss=logitnorm"):
        assert cli.main([*words, "--where", condition, "--metrics", "auroc"]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert "params.yaml was changed since the run whose numbers are here: " in told.err
        assert f"{LOGITNORM}; `osr run` makes it anew, or put them back." in told.err
    change("  loss: logitnorm\n", "  loss: ce\n")
    read_files()


def test_a_folder_elsewhere_is_refused_by_its_name(project, monkeypatch):
    change("  loss: ce\n", "  loss: logitnorm\n")
    monkeypatch.chdir(project.parent)
    with pytest.raises(InputError) as refused:
        read_source("theirs")
    assert str(refused.value).startswith("theirs: params.yaml was changed since the run")
    assert LOGITNORM in str(refused.value)


def test_a_run_that_came_no_further_than_training_is_refused():
    change("  loss: ce\n", "  loss: logitnorm\n")
    record(keep=("prepare-split", "calibrate", "fit-openmax", "evaluate", "plot"))
    with pytest.raises(
        InputError, match=r"^Stage calibrate was not run since stage train made artifacts/mod"
    ):
        read_files()
    record()
    assert read_files().params["train.loss"] == "logitnorm"


def test_metrics_that_are_not_the_run_s_are_refused():
    metrics = Path("metrics/evaluate.json")
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"auroc": {"msp": 1.0}}))
    with pytest.raises(InputError, match=r"^metrics/evaluate.json is not what stage evaluate made last"):
        read_files()
    record(keep=("evaluate",))
    Path("dvc.lock").unlink()
    with pytest.raises(InputError, match=r"^dvc.lock does not say with which settings stage prepare-split"):
        read_files()


def test_figures_may_be_set_otherwise_and_dvc_s_own_file_is_understood():
    change("  dpi: 150", "  dpi: 99")
    assert read_files().metrics["auroc/msp"] == 0.91
    for name in ("params.yaml", "dvc.lock"):
        shutil.copy(ROOT / name, name)
    shutil.copytree(ROOT / "metrics", "metrics", dirs_exist_ok=True)
    assert read_files().params["train.loss"] == "ce"
