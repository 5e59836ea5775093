"""Which experiments of a sweep were run: what a row in MLflow answers, and what it does not."""

import json
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest
from dvc_task.proc import ProcessInfo
from test_sweep import project  # noqa: F401 (fixture)

from osr.params import check_params, flatten
from osr.settings.reading import read_yaml
from pipeline import cli
from pipeline.experiments.overrides import merge
from pipeline.experiments.preset import load_presets
from pipeline.experiments.sweep import missing, run_otherwise
from pipeline.experiments.sweep_file import FOLDER, load_sweep
from pipeline.experiments.waiting import _is_over
from pipeline.tracking.results import Result, Stored
from pipeline.workspace.stages import PARAMS


def test_what_was_run_is_not_missing() -> None:
    loaded = load_sweep("two")
    experiments = loaded.experiments()
    run = [
        Result("x", 0, {key: str(value) for key, value in flatten(params(experiment)).items()}, {})
        for experiment in experiments[:5]
    ]
    assert missing(loaded, run) == experiments[5:]
    assert (
        missing(load_sweep("two", ["train.lr=1.0"]), run) == load_sweep("two", ["train.lr=1.0"]).experiments()
    )


def params(experiment):
    return check_params(merge(read_yaml(PARAMS), experiment), source="")


def row_of(experiment: dict, **changes: str | None) -> Result:
    """A finished run of an experiment; `train__lr="1.0"` changes a param, None takes it away."""
    held = {key: str(value) for key, value in flatten(params(experiment)).items()}
    held |= {key.replace("__", "."): value for key, value in changes.items()}
    return Result("x", 0, {key: value for key, value in held.items() if value is not None}, {})


@pytest.mark.parametrize(
    ("changes", "answers"),
    [
        ({}, True),
        ({"train__epochs": "8", "train__warmup_epochs": "1"}, False),
        ({"evaluate__bootstrap_replicates": "100"}, False),
        ({"detectors__enabled": "['msp']"}, False),
        ({"dataset__root": "/elsewhere", "dataset__download": "False"}, True),
        ({"train__accelerator": "gpu", "train__devices": "2", "train__strategy": "ddp"}, True),
        ({"train__num_workers": "0", "extraction__batch_size": "64", "plot__dpi": "99"}, True),
        ({"preset": "digits_quick", "overrides": "split.trial=1", "train__of_old": "1"}, True),
        ({"train__label_smoothing": None, "model__head__temperature": None}, True),
        ({"split__protocol": None}, False),
        ({"split__trial": None}, False),
    ],
)
def test_a_row_answers_an_experiment_that_agrees_in_all_that_decides(changes: dict, answers: bool) -> None:
    loaded = load_sweep("digits_a")
    first, *others = loaded.experiments()
    assert missing(loaded, [row_of(first, **changes)]) == (others if answers else [first, *others])


def test_a_row_of_a_quick_preset_does_not_answer_the_sweep(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quick = merge(load_presets(["digits_quick"]), {"split": {"trial": 1}})
    monkeypatch.setattr("pipeline.experiments.sweep.read_workspace", lambda _: Stored([row_of(quick)], []))
    assert cli.main(["sweep", "digits_a", "--missing"]) == 0
    assert [shlex.split(line)[-1] for line in capsys.readouterr().out.splitlines()] == [
        f"split.trial={trial}" for trial in range(5)
    ]
    assert caplog.messages == [
        "5 experiments not run with exactly these settings; with others, such as train.warmup_epochs=1, "
        "train.epochs=8, evaluate.bootstrap_replicates=100: 1 of them (give the same -S)."
    ]
    loaded = load_sweep("digits_a")
    first = loaded.experiments()[0]
    assert run_otherwise(loaded, [row_of(first)]) == ""
    assert run_otherwise(loaded, [row_of(first, dataset__name="mnist", train__epochs=1)]) == ""


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset.name": "arrays", "split.protocol": "random", "split.num_known": 2},
        {"dataset.unknown_sources": [{"source": "far", "name": "folder"}]},
    ],
)
def test_another_folder_of_your_own_data_is_other_data(settings: dict) -> None:
    content = {"settings": settings, "grid": {"train.seed": [0]}}
    (FOLDER / "own.yaml").write_text(json.dumps(content))
    loaded = load_sweep("own")
    (experiment,) = loaded.experiments()
    assert missing(loaded, [row_of(experiment)]) == []
    assert missing(loaded, [row_of(experiment, dataset__root="/elsewhere")]) == [experiment]


def test_what_runs_on_this_machine_need_not_be_queued(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of another machine's row nobody can tell whether its process is alive; here, dead ones are KILLED."""
    here, there, *_ = map(row_of, load_sweep("digits_a").experiments())
    going = [replace(here, host=platform.node()), replace(there, host="another machine")]
    monkeypatch.setattr("pipeline.experiments.sweep.read_workspace", lambda _: Stored([], going))
    caplog.set_level("INFO", "osr.sweep")
    assert cli.main(["sweep", "digits_a", "--missing"]) == 0
    assert [shlex.split(line)[-1] for line in capsys.readouterr().out.splitlines()] == [
        f"split.trial={trial}" for trial in range(1, 5)
    ]
    told = "not to be queued again: 1 experiment runs, or waits in DVC's queue (x; `dvc queue status`)."
    assert caplog.messages == [told]


def test_nothing_is_queued_twice_but_what_has_a_result_may_be_run_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done, here, *others = map(row_of, load_sweep("digits_a").experiments())
    going = [replace(here, host=platform.node())]
    queued: list[list[str]] = []
    monkeypatch.setattr("pipeline.experiments.sweep.finished", lambda command: queued.append(command) or 0)
    for found, trials in (
        (Stored([done], []), ["split.trial=0,1,2,3,4"]),
        (Stored([done], going), [f"split.trial={trial}" for trial in (0, 2, 3, 4)]),
        (Stored([], [replace(row, host=platform.node()) for row in (done, here, *others)]), []),
    ):
        monkeypatch.setattr("pipeline.experiments.sweep.read_workspace", lambda _, found=found: found)
        assert cli.main(["sweep", "digits_a", "--queue"]) == 0
        assert [command[-1] for command in queued] == trials
        queued.clear()
    assert not [message for message in caplog.messages if "not run with" in message]


def test_what_the_sweep_sets_always_decides() -> None:
    (FOLDER / "own.yaml").write_text("grid: {train.devices: [1, 2], plot.dpi: [98, 99]}\n")
    loaded = load_sweep("own")
    experiments = loaded.experiments()
    assert missing(loaded, map(row_of, experiments[:2])) == experiments[2:]


def test_a_param_that_mlflow_cut_is_known_by_its_beginning() -> None:
    names = [f"class {number}" for number in range(900)]
    explicit = {"split.protocol": "explicit", "split.known": names, "split.unknown": ["other"]}
    (FOLDER / "own.yaml").write_text(json.dumps({"settings": explicit, "grid": {"train.seed": [0]}}))
    loaded = load_sweep("own")
    (experiment,) = loaded.experiments()
    whole = row_of(experiment).params["split.known"]
    assert len(whole) > 6000
    assert missing(loaded, [row_of(experiment, split__known=whole[:5999] + "…")]) == []
    assert missing(loaded, [row_of(experiment, split__known="x" + whole[:5998] + "…")]) == [experiment]


def test_an_experiment_whose_process_is_gone_does_not_run() -> None:
    """DVC lists it as active where its worker was killed."""
    assert not _is_over(None), "it is about to begin"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for pid, status, is_over in ((os.getpid(), None, False), (os.getpid(), 1, True), (ended.pid, None, True)):
        assert _is_over(ProcessInfo(pid, None, None, None, status)) == is_over
