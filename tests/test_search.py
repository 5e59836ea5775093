"""`osr search`: faults of a SPACE.yaml, what is opened, rows, pruning, and going on after a kill."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osr.errors import InputError
from osr.params import check_params
from osr.settings.reading import read_yaml
from pipeline import cli
from pipeline.experiments.overrides import merge
from pipeline.experiments.space_file import load_space
from pipeline.workspace.stages import PARAMS

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 300
NO_OPTUNA = "Optuna is not installed: `.ci/extras search` runs this"
SPACE = """\
presets: [digits_quick]
settings: {train.epochs: 2, train.warmup_epochs: 0, train.accelerator: cpu}
space:
  train.lr: {low: 1e-4, high: 1e-1, log: true}
  train.batch_size: [32, 64]
trials: 3
split_trials: []
parts: 2
trainings: 1
detector: maxlogit
prune_at: []
prune_after: 1
seed: 0
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings, presets and a space in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSR_TRACKING", "off")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


def space(*changes: tuple[str, str]) -> Path:
    text = SPACE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path("space.yaml").write_text(text)
    return Path("space.yaml")


LR = "train.lr: {low: 1e-4, high: 1e-1, log: true}"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("trials: 3\n", "", "the key 'trials' is missing"),
        ("trials: 3\n", "trials: 0\n", "trials is 0, but must be at least 1."),
        ("parts: 2", "prats: 2", "did you mean 'parts'?"),
        ("presets: [digits_quick]", "presets: [digits_quik]", "did you mean 'digits_quick'?"),
        ("train.epochs: 2", "train.epoch: 2", "did you mean 'train.epochs'?"),
        ("detector: maxlogit", "detector: maxlogt", "did you mean 'maxlogit'?"),
        (
            "space:\n  " + LR + "\n  train.batch_size: [32, 64]",
            "space: {}",
            "space is {}, but must hold a key",
        ),
        (LR, LR.replace("lr", "lrr"), "space: unknown key 'train.lrr'; did you mean 'train.lr'?"),
        (LR, LR.replace("train.lr", "trian.lr"), "unknown key 'trian'; did you mean 'train'?"),
        (LR, LR.replace("1e-4", "0"), "train.lr is {low:0,high:0.1,log:true}, but must be above 0"),
        (LR, LR.replace("1e-1", "1e-5"), "but must be a range whose low is below its high."),
        (LR, LR.replace("1e-1", "1e6"), "train.lr is 1000000.0, but must be at most 1000."),
        (LR, LR.replace("log", "step"), "with numbers, and true or false."),
        (LR, "train.lr: {low: 0.1, high: 0.2, step: 0.03}", "from low to high in whole steps."),
        (LR, "train.lr: {low: 0.1}", "but must be {low: …, high: …}, and may hold a step, or log: true."),
        (LR, "train.epochs: {low: 1.5, high: 3}", "train.epochs is 1.5, but must be a whole number."),
        (LR, "train.epochs: {low: 1, high: 3, step: 0.5}", "with a step above 0, a whole number."),
        (LR, "train.loss: [ce]", "train.loss is [ce], but must be a range, or a list of 2 values or more."),
        (LR, "train.loss: [ce, logitnrm]", "did you mean 'logitnorm'?"),
        (LR, "train.loss: [ce, ce]", "train.loss is [ce,ce], but must be values that differ."),
        (LR, "train.loss: [ce, arpl]", "must be 'reciprocal' when train.loss is 'arpl'"),
        (LR, "train: {low: 1, high: 2}", "train is 1, but must be a section of settings."),
        (LR, "plot.dpi: [90, 91]", "plot.dpi must be a key of model, train, losses, detectors"),
        (LR, "split.trial: [0, 1]", "split.trial must be a key of model, train, losses, detectors"),
        (LR, "train.devices: [1, 2]", "train.devices must be a key of model"),
        (LR, "train.seed: [0, 1]", "train.seed must stay as it is: a seed is luck"),
        ("trials: 3", "trials: 3\nvariants: [{train.loss: ce}]", "variants: there must be 2 or more."),
        (
            "trials: 3",
            "trials: 3\nvariants: [{train.lr: 0.1}, {train.lr: 0.2}]",
            "train.lr stands in `space`",
        ),
        ("trials: 3", "trials: 3\nvariants: [{train.loss: ce}, {train.loss: x}]", "train.loss is 'x'"),
    ],
)
def test_a_fault_of_the_space_is_one_sentence(
    old: str, new: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = space((old, new))
    assert cli.main(["search", str(path)]) == 1
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_each_fault_of_a_space_is_told() -> None:
    path = space((LR, LR.replace("1e-1", "1e6")), ("[32, 64]", "[32]"))
    with pytest.raises(InputError) as caught:
        load_space(path)
    assert [line.partition(" is ")[0] for line in str(caught.value).splitlines()] == [
        "space.yaml, space: train.lr",
        "space.yaml, space: train.batch_size",
    ]


def test_a_point_of_the_space_is_settings_and_params_yaml_is_one() -> None:
    together = "variants: [{train.loss: ce}, {train.loss: arpl, model.head.name: reciprocal}]"
    loaded = load_space(space(("trials: 3", f"trials: 3\n{together}")))
    ours = read_yaml(PARAMS)
    default = loaded.default(check_params(merge(ours, loaded.common), source=""))
    assert default == {"train.lr": 3e-3, "train.batch_size": "64", "variant": "0"}
    found = loaded.settings({"train.lr": 0.01, "train.batch_size": "32", "variant": "1"})
    params = check_params(merge(ours, found), source="")
    assert (params.train.lr, params.train.batch_size, params.train.epochs) == (0.01, 32, 2)
    assert (params.train.loss, params.model.head.name) == ("arpl", "reciprocal")
    outside = load_space(space((LR, LR.replace("1e-4", "1e-2"))))
    assert outside.default(check_params(merge(ours, outside.common), source="")) is None


def test_the_shipped_searches_obey_the_schema() -> None:
    files = sorted((ROOT / "searches").glob("*.yaml"))
    assert files
    for path in files:
        assert load_space(path).ranges


def test_without_optuna_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert cli.main(["search", "space.yaml"]) == 1
    assert capsys.readouterr().err == (
        "ERROR: `osr search` needs Optuna: install the extra `search`, in a clone by uv pip install -e "
        "'.[search]'.\n"
    )


def trials() -> list:
    import optuna

    (name,) = optuna.get_all_study_names("sqlite:///optuna.db")
    return optuna.load_study(study_name=name, storage="sqlite:///optuna.db").trials


def test_no_unknown_image_is_opened_and_the_best_trial_is_a_preset(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna", reason=NO_OPTUNA)
    draw = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog", "emu", "fox", "gnu")):
        folder = project / "data" / "images" / name
        folder.mkdir(parents=True)
        for file in (folder / f"{place}.png" for place in range(12)):
            pixels = draw.integers(0, 60, (8, 8)) + 40 * number
            if name == "dog":
                file.write_bytes(b"poison")
            else:
                Image.fromarray(pixels.astype(np.uint8)).save(file)
    photos = "dataset.name: folder, split.protocol: explicit, split.unknown: [dog], train.epochs: 2"
    path = space(("train.epochs: 2", photos), ("trials: 3", "trials: 2"), ("seed: 0", "seed: 1"))
    assert cli.main(["search", str(path)]) == 0
    found = trials()
    assert [trial.state.name for trial in found] == ["COMPLETE", "COMPLETE"]
    assert found[0].user_attrs["default"]
    text = capsys.readouterr().out
    (project / "presets" / "found.yaml").write_text(text)
    assert cli.main(["preset", "found"]) == 0
    flags = capsys.readouterr().out.split()
    best = max(found, key=lambda trial: trial.value)
    assert f"train.batch_size={best.params['train.batch_size']}" in flags
    assert f"train.lr={best.params['train.lr']}" in flags
    assert cli.main(["preset", "--list"]) == 0
    assert f"found: space: trial {best.number} of 2, AUROC of maxlogit" in capsys.readouterr().out


def test_each_trial_is_a_child_row_and_none_is_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna", reason=NO_OPTUNA)
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("OSR_TRACKING")
    path = space(("prune_at: []", "prune_at: [1]"), ("[32, 64]", "[32, 64]\n  train.loss: [ce, logitnorm]"))
    assert cli.main(["search", str(path)]) == 0
    assert cli.main(["search", str(space(("trials: 3", "trials: 4")))]) == 0, "another study"
    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("osr").experiment_id
    rows = client.search_runs([experiment])
    studies = {row.data.tags["osr.search"] for row in rows}
    assert len(studies) == 2
    assert len(rows) == 1 + 3 + 1 + 4
    for study in studies:
        own = [row for row in rows if row.data.tags["osr.search"] == study]
        count = len(own) - 1
        (parent,) = [row for row in own if "osr.search.trial" not in row.data.tags]
        children = [row for row in own if row is not parent]
        assert sorted(row.data.tags["osr.search.trial"] for row in children) == list(map(str, range(count)))
        assert {row.data.tags["mlflow.parentRunId"] for row in children} == {parent.info.run_id}
        assert {row.info.status for row in own} == {"FINISHED"}
        first = next(row for row in children if row.data.tags["osr.search.trial"] == "0")
        assert first.data.params["train.lr"] == "0.003"
        assert 0 < first.data.metrics["held_out/auroc"] == first.data.metrics["held_out/auroc/0.0"] < 1


def test_mlflows_database_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna", reason=NO_OPTUNA)
    import sqlite3

    with sqlite3.connect("mlflow.db") as tables:
        tables.execute("CREATE TABLE experiments (name TEXT)")
    assert cli.main(["search", "space.yaml", "--storage", "sqlite:///mlflow.db"]) == 1
    assert "mlflow.db is MLflow's database, whose tables Optuna's would break" in capsys.readouterr().err
    assert cli.main(["search", "space.yaml", "--storage", "nothing"]) == 1
    assert "--storage nothing cannot be used as Optuna's database" in capsys.readouterr().err


def test_settings_that_do_not_go_together_are_a_trial_that_failed() -> None:
    pytest.importorskip("optuna", reason=NO_OPTUNA)
    pairs = "train.epochs: {low: 1, high: 2}\n  train.warmup_epochs: [0, 1]"
    path = space((LR, pairs), ("trials: 3", "trials: 6"))
    assert cli.main(["search", str(path)]) == 0
    states = {}
    for trial in trials():
        bad = (trial.params["train.epochs"], trial.params["train.warmup_epochs"]) == (1, "1")
        states.setdefault(bad, set()).add(trial.state.name)
        assert ("but must be below train.epochs" in trial.user_attrs.get("reason", "")) is bad
    assert states == {True: {"FAIL"}, False: {"COMPLETE"}}


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_as_it_would_have(project: Path) -> None:
    pytest.importorskip("optuna", reason=NO_OPTUNA)
    text = space(("train.epochs: 2", "train.epochs: 12"), ("trials: 3", "trials: 5")).read_text()
    text = text.replace("prune_at: []", "prune_at: [4, 8]").replace("trainings: 1", "trainings: 2")
    Path("space.yaml").write_text(text)
    command = [sys.executable, "-m", "pipeline.cli", "search", "space.yaml"]
    whole = project / "whole"
    for name in ("params.yaml", "presets", "space.yaml"):
        whole.mkdir(exist_ok=True)
        copy = shutil.copytree if (project / name).is_dir() else shutil.copy
        copy(project / name, whole / name)
    env = environment()
    subprocess.run(command, cwd=whole, env=env, check=True, timeout=TIMEOUT_S, capture_output=True)
    draw = np.random.default_rng(0)
    kills = 0
    while True:
        program = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            _, told = program.communicate(timeout=float(draw.uniform(6, 14)) if kills < 4 else TIMEOUT_S)
            break
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGKILL)
            program.communicate()
            kills += 1
    assert program.returncode == 0, told
    assert kills
    assert outcomes(project) == outcomes(whole)
    assert not list((project / ".osr" / "search").rglob("*.pt"))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def outcomes(folder: Path) -> list[tuple]:
    import optuna

    address = f"sqlite:///{folder / 'optuna.db'}"
    (name,) = optuna.get_all_study_names(address)
    found = optuna.load_study(study_name=name, storage=address).trials
    return [(t.number, t.state.name, t.value, t.params, t.user_attrs.get("aurocs")) for t in found]
