"""osr compare: which runs are repeats, which are another method or task, what is refused or missing."""

import shlex
import shutil
from dataclasses import replace

import pytest
from compared_runs import DEFAULTS, ROOT, cells, result, table, trials
from hydra.core.override_parser.overrides_parser import OverridesParser
from ruamel.yaml import YAML

from osr.errors import InputError
from osr.params import check_params, flatten
from pipeline.comparing.conditions import select
from pipeline.comparing.grouping import ENTRY_POINT, by_task, differing
from pipeline.comparing.missing import command, gaps, print_missing
from pipeline.tracking.results import Result


def test_repeats_are_trials_and_seeds_and_the_newest_of_equal_runs_counts():
    results = [
        result(started=1, train__seed=0, metrics={"auroc/msp": 0.5}),
        result(started=2, train__seed=1, metrics={"auroc/msp": 0.8}),
        result(started=3, train__seed=0, metrics={"auroc/msp": 0.6}, plot__dpi=99, evaluate__seed=4),
    ]
    (section,) = table(results)
    (line,) = section.lines
    assert (line.n, line.cells["auroc"].mean) == (2, pytest.approx(0.7))
    assert section.keys == ()
    assert section.notes == (
        "Left out for a newer run of the same settings and seeds: 1 run; their values differ by up to 0.1 "
        "(evaluate.*, extraction.*, plot.* and detectors.enabled may be others).",
    )


def test_entry_point_parameters_of_mlflow_run_are_no_settings():
    entries = YAML(typ="safe", pure=True).load(ROOT / "MLproject")["entry_points"].values()
    assert {name for entry in entries for name in entry["parameters"]} == set(ENTRY_POINT)
    of_mlflow = [
        result(started=10 + trial, split__trial=trial, preset="", overrides=f"split.trial={trial}")
        for trial in (0, 3)
    ]
    results = [*trials(0.9)[:3], *of_mlflow]
    (section,) = table(results)
    assert section.keys == ()
    assert {line.n for line in section.lines} == {4}
    (gap,) = gaps(results)
    assert (gap.settings, gap.trials) == ("", (4,))
    assert command(gap, DEFAULTS) == "dvc exp run --queue -S split.trial=4"
    assert select(results, ["overrides=split.trial=3"]) == [results[-1]]


def test_a_setting_of_one_detector_does_not_split_the_others():
    results = [
        result(started=1, detectors__energy__temperature=1.0),
        result(started=2, detectors__energy__temperature=2.0),
    ]
    (section,) = table(results)
    assert section.keys == ("detectors.energy.temperature",)
    assert {method.detector: len(method.settings) for method in cells(section)} == {"energy": 1, "msp": 0}
    assert len(section.lines) == 3


def test_tasks_are_never_averaged():
    results = [
        result(started=1),
        result(started=2, dataset__name="other"),
        result(started=3, split__protocol="explicit", split__known="[0, 1]", split__unknown="[2]"),
        result(started=4, split__protocol="explicit", split__known="[0, 2]", split__unknown="[1]"),
        result(started=5, split__protocol="explicit", split__known="[]", split__unknown="['a', 'b']"),
        result(started=6, split__protocol="explicit", split__known="[]", split__unknown="['a, b']"),
    ]
    assert [section.task for section in table(results)] == [
        "digits, known classes 0, 1, unknown ones 2",
        "digits, known classes 0, 2, unknown ones 1",
        "digits, protocol A",
        "digits, unknown classes ['a, b']",
        "digits, unknown classes a, b",
        "other, protocol A",
    ]
    assert all(line.n == 1 for section in table(results) for line in section.lines)
    assert differing(by_task(results)["digits, protocol A"]) == ()


def test_other_test_images_under_the_same_trial_are_refused():
    results = [result(started=1), result(started=2, split__test_fraction=0.5, digest="another")]
    with pytest.raises(InputError) as refused:
        table(results)
    assert str(refused.value) == (
        "digits, protocol A: run 1 and run 2 both say split.trial 0 and split.seed 0, but their test sets "
        "differ (osr.test.digest digest digits 0 0 and another): choose one with "
        "--where split.test_fraction=0.25."
    )
    assert len(table(select(results, ["split.test_fraction=0.5"]))) == 1
    with pytest.raises(InputError, match=r"choose one with --where mlflow.source.git.commit=…"):
        table([result(started=1), result(started=2, digest="another", train__lr=0.1)])


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        ("aurok", "did you mean 'auroc'"),
        ("accuracy", "did you mean 'closed_set/accuracy'"),
        ("AUROC", "did you mean 'auroc'"),
        ("xyz", r"no run has this metric; there are: auroc, closed_set/accuracy\.$"),
    ],
)
def test_unknown_metrics_are_refused(metric, sentence):
    """Also the short names of the judge's numbers, which are in each row for MLflow's pages alone."""
    short = {"AUROC": 0.9, "Accuracy": 0.8}
    with pytest.raises(InputError, match=sentence):
        table([result(), result(started=2, metrics={"auroc/msp": 0.5, **short})], metric)


def test_a_metric_that_only_another_task_has_is_a_gap():
    results = [result(started=1), result(started=2, dataset__name="other", metrics={"auroc/msp": 0.5})]
    digits, other = table(results, "auroc", "closed_set/accuracy")
    assert [line.cells["closed_set/accuracy"] for line in other.lines] == [None]
    assert digits.lines[0].cells["closed_set/accuracy"].mean == 0.95


def test_nothing_to_compare():
    with pytest.raises(InputError, match="no finished run with test metrics"):
        table([])


def test_select_compares_numbers_as_numbers():
    results = [result(started=1), result(started=2, train__lr=0.1)]
    assert select(results, ["train.lr=1e-1", "split.trial=0"]) == [results[1]]
    for condition, sentence in (
        ("train.lr", "must look like train.lr=0.003"),
        ("train.lr=7", f"no run is left; there are: {DEFAULTS['train.lr']}, 0.1"),
        ("train.rate=7", "no run has this parameter"),
    ):
        with pytest.raises(InputError, match=sentence):
            select(results, [condition])


def test_missing_trials_and_the_command_that_fills_them():
    results = [
        result(started=1, split__trial=0, train__lr=0.1, model__backbone__weights="my weights.pth"),
        result(started=2, split__trial=3, train__lr=0.1, model__backbone__weights="my weights.pth"),
        *trials(0.9, started=10),
        result(started=20, dataset__name="unlisted"),
        result(started=21, split__protocol="explicit"),
    ]
    results.append(result(started=22, dataset__name="arrays", split__lists_of="mnist", split__trial=4))
    arrays, gap = gaps(results)
    assert (arrays.task, arrays.trials) == ("arrays, protocol A", (0, 1, 2, 3))
    assert gap.trials == (1, 2, 4)
    assert gap.settings == "model.backbone.weights=my weights.pth, train.lr=0.1"
    line = command(gap, DEFAULTS)
    assert shlex.split(line) == [
        *("dvc", "exp", "run", "--queue"),
        *("-S", 'model.backbone.weights="my weights.pth"'),
        *("-S", "split.trial=1,2,4", "-S", "train.lr=0.1"),
    ]


def test_missing_trials_of_each_seed_and_lists_as_dvc_reads_them():
    results = [*trials(0.9), result(started=9, train__seed=1, detectors__enabled="['msp', 'energy']")]
    (gap,) = gaps(results)
    assert (gap.trials, gap.settings) == ((1, 2, 3, 4), "train.seed=1")
    assert command(gap, DEFAULTS) == (
        "dvc exp run --queue -S 'detectors.enabled=[msp,energy]' -S split.trial=1,2,3,4 -S train.seed=1"
    )


def test_a_missing_trial_with_unknown_sources_is_a_line_that_dvc_reads():
    parse = OverridesParser.create().parse_override
    given = [{"source": "far", "name": "svhn"}, {"source": "near", "name": "arrays", "folder": "my images"}]
    content = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    content["dataset"]["unknown_sources"] = given
    sources = str(flatten(check_params(content, source="params.yaml"))["dataset.unknown_sources"])
    assert "None" in sources
    (gap,) = gaps([result(dataset__unknown_sources=sources)])
    flags = [parse(part) for part in shlex.split(command(gap, DEFAULTS)) if "=" in part]
    assert {flag.key_or_group: flag.value() for flag in flags if not flag.is_sweep_override()} == {
        "dataset.unknown_sources": given
    }
    assert gap.task == (
        "digits, protocol A, unknown images of far (svhn) and near (arrays, folder=my images)"
    )


def test_runs_that_differ_in_training_images_alone_are_compared():
    """Same test digest, other split digest: `split.val_fraction` is a setting like any other."""
    runs = [
        replace(run, params={**run.params, "osr.split.digest": f"split {number} {run.started}"})
        for number, share in enumerate((0.15, 0.3))
        for run in trials(0.9 - 0.1 * number, split__val_fraction=share)
    ]
    (section,) = table(runs)
    assert section.keys == ("split.val_fraction",)
    assert {line.n for line in section.lines} == {5}


def test_a_row_without_a_test_digest_is_known_by_its_split():
    old = Result("old", 1, {"osr.split.digest": "abc"}, {})
    assert old.digest == "abc"


def test_missing_beside_data_of_ones_own(capsys, monkeypatch, tmp_path):
    """The shipped sweeps are of published data; with settings that they do not go with each says so."""
    monkeypatch.chdir(tmp_path)
    for folder in ("sweeps", "presets"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    yaml = YAML()
    own = yaml.load((ROOT / "params.yaml").read_text())
    own["dataset"]["name"] = "folder"
    own["split"] |= {"protocol": "explicit", "known": ["a", "b"]}
    yaml.dump(own, tmp_path / "params.yaml")
    row = result(dataset__name="folder", split__protocol="explicit", split__known="['a', 'b']")
    print_missing([row], [], [row])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "# no trial is missing"
    assert all(line.startswith("# ") for line in printed), "a shell passes over all of it"
    assert [line for line in printed if line.startswith("# sweep digits_a does not go with these settings: ")]
