"""osr compare: which runs are repeats, what is marked, what is refused, and four formats."""

import csv
import io
import json
import math
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from mlflow.entities import Metric, Param, RunTag
from ruamel.yaml import YAML
from scipy import stats

from osr.errors import InputError
from osr.params import check_params, flatten, load_params
from osr.stored.arrays import write_arrays
from osr.stored.origin import Origin
from pipeline import cli
from pipeline.comparing.compare import _print_missing
from pipeline.comparing.diagram import write_diagram
from pipeline.comparing.grouping import ENTRY_POINT, Method, by_task, differing
from pipeline.comparing.missing import command, gaps
from pipeline.comparing.summary import Cell, Line, Section, lower_is_better, sections
from pipeline.comparing.tables import latex_escape, short_keys, to_latex, to_markdown
from pipeline.tracking import other_stores
from pipeline.tracking.finished_rows import finished_rows, rows_of_client, rows_of_file
from pipeline.tracking.other_stores import read_source
from pipeline.tracking.results import DIGEST, Result, read_store, select
from pipeline.tracking.store import Store, connect
from pipeline.workspace.stages import SCORES

ROOT = Path(__file__).parents[1]
DEFAULTS = {key: str(value) for key, value in flatten(load_params(ROOT / "params.yaml")).items()}
FOREIGN = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "DVC_ROOT",
)
NOISE = np.array([0.0, 0.01, -0.01, 0.02, -0.02])


def result(*, started=1, digest=None, metrics=None, **settings):
    """One run; `split__trial=1` sets a param, metrics are of detectors msp and energy unless given."""
    params = {**DEFAULTS, **{key.replace("__", "."): str(value) for key, value in settings.items()}}
    digest = (
        f"digest {params['dataset.name']} {params['split.trial']} {params['split.seed']}"
        if digest is None
        else digest
    )
    metrics = metrics or {"auroc/msp": 0.9, "auroc/energy": 0.8, "closed_set/accuracy": 0.95}
    return Result(f"run {started}", started, {**params, DIGEST: digest}, metrics)


def trials(base, *, offset=0.0, started=1, **settings):
    """Five trials: msp scatters around base, energy lies 0.1 below with other noise."""
    return [
        result(
            started=started + trial,
            split__trial=trial,
            metrics={
                "auroc/msp": base + NOISE[trial],
                "auroc/energy": base - 0.1 + NOISE[trial] + 0.001 * trial,
                "auoscr/msp": base,
                "ccr_at_fpr_0.001/msp": math.nan,
                "fpr_at_95tpr_known/msp": 0.3 + NOISE[trial],
                "fpr_at_95tpr_known/energy": 0.3 - NOISE[trial],
                "closed_set/accuracy": base + offset,
            },
            **settings,
        )
        for trial in range(5)
    ]


def table(results, *metrics, **options):
    return sections(results, metrics or ("auroc",), **({"confidence": 0.95, "significance": 0.05} | options))


def cells(section, metric="auroc"):
    return {line.method: line.cells[metric] for line in section.lines}


# ---- means and marks


def test_mean_and_t_interval_over_trials_and_the_best_in_front():
    (section,) = table(trials(0.9), "auroc", "fpr_at_95tpr_known", "closed_set/accuracy")
    assert section.task == "digits, protocol A"
    assert section.keys == ()
    assert [(line.method.detector, line.n) for line in section.lines] == [("msp", 5), ("energy", 5)]
    msp, energy = (line.cells["auroc"] for line in section.lines)
    low, high = stats.t.interval(0.95, 4, loc=0.9, scale=stats.sem(NOISE))
    assert (msp.mean, msp.low, msp.high, msp.n) == (
        pytest.approx(0.9),
        pytest.approx(low),
        pytest.approx(high),
        5,
    )
    assert (msp.best, energy.best) == (True, False)
    # fpr scatters around 0.3 for both: not significant, so nothing is marked; accuracy is the network's
    assert not any(cell.best for cell in cells(section, "fpr_at_95tpr_known").values())
    assert not any(cell.best for cell in cells(section, "closed_set/accuracy").values())


def test_what_does_not_differ_from_the_best_shares_its_mark():
    results = [*trials(0.9), *trials(0.9, started=10, train__lr=0.1), *trials(0.7, started=20, train__lr=0.5)]
    for wave, run in enumerate(results[5:10]):
        run.metrics["auroc/msp"] += 0.004 * (-1) ** wave
    (section,) = table(results)
    assert section.keys == ("train.lr",)
    marks = {(method.detector, method.settings[0][1]): cell.best for method, cell in cells(section).items()}
    assert marks[("msp", "0.1")]
    assert marks[("msp", DEFAULTS["train.lr"])]
    assert sum(marks.values()) == 2


def test_low_is_good_for_errors():
    assert lower_is_better("fpr_at_95tpr_known")
    assert lower_is_better("closed_set/ece_after")
    assert lower_is_better("closed_set/nll_before")
    assert lower_is_better("risk_at_80_coverage")
    assert lower_is_better("costs/expected_cost")
    assert not lower_is_better("coverage_at_5_risk")
    assert not lower_is_better("ccr_at_fpr_0.1")
    results = trials(0.9)
    for run in results:
        run.metrics["fpr_at_95tpr_known/msp"] = run.metrics["fpr_at_95tpr_known/energy"] - 0.2
    (section,) = table(results, "fpr_at_95tpr_known")
    assert [line.method.detector for line in section.lines] == ["msp", "energy"]
    assert [line.cells["fpr_at_95tpr_known"].best for line in section.lines] == [True, False]


def test_networks_are_compared_once_however_many_detectors_they_have():
    # accuracy differs by 0.1 +- little between two networks: p is small, but 3 tests of one pair would not be
    better, worse = trials(0.9), trials(0.9, started=10, train__lr=0.1)
    for run, noise in zip(worse, [0.0, 0.01, 0.015, 0.02, 0.038], strict=True):
        run.metrics["closed_set/accuracy"] -= noise
    differences = [
        a.metrics["closed_set/accuracy"] - b.metrics["closed_set/accuracy"]
        for a, b in zip(better, worse, strict=True)
    ]
    p_value = stats.ttest_1samp(differences, 0).pvalue
    assert p_value < 0.06 < 3 * p_value
    (section,) = table([*better, *worse], "closed_set/accuracy", significance=0.06)
    assert sum(cell.best for cell in cells(section, "closed_set/accuracy").values()) == len(section.lines) / 2


def test_one_run_has_its_bootstrap_interval_and_no_mark():
    run = result(
        metrics={"auroc/msp": 0.9, "auroc_low/msp": 0.85, "auroc_high/msp": 0.93, "auroc/energy": 0.8}
    )
    (section,) = table([run])
    msp, energy = (line.cells["auroc"] for line in section.lines)
    assert (msp.mean, msp.low, msp.high, msp.n, msp.best) == (0.9, 0.85, 0.93, 1, False)
    assert math.isnan(energy.low)


def test_nan_is_no_number_and_no_zero():
    results = trials(0.9)
    for run in results:
        run.metrics["auroc/energy"] = math.nan
    results[0].metrics["auroc/msp"] = math.nan
    (section,) = table(results)
    found = {method.detector: cell for method, cell in cells(section).items()}
    assert found["energy"] is None
    assert (found["msp"].n, found["msp"].mean) == (4, pytest.approx(0.9))
    assert "| energy | 5 | – |" in to_markdown([section])


# ---- which runs belong together


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
        "Left out for a newer run of the same settings and seeds: 1 run; their values differ by up to 0.1.",
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
    ]
    assert [section.task for section in table(results)] == [
        "digits, protocol A",
        "digits, protocol explicit [0, 1] / [2]",
        "digits, protocol explicit [0, 2] / [1]",
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
        ("xyz", r"no run has this metric; there are: auroc, closed_set/accuracy\.$"),
    ],
)
def test_unknown_metrics_are_refused(metric, sentence):
    with pytest.raises(InputError, match=sentence):
        table([result()], metric)


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


# ---- the diagram of ranks


def test_the_diagram_ranks_the_methods_of_every_task_in_the_runs_that_have_all(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "pipeline.comparing.diagram.figures.critical_difference",
        lambda axes, ranks, critical_difference: drawn.append((axes, ranks, critical_difference)),
    )
    results = trials(0.9)  # msp always lies above energy
    results[0].metrics["auroc/energy"] = 0.99
    results[1].metrics["auroc/energy"] = math.nan
    other = {"auroc/msp": 0.7, "auroc/energy": 0.6, "auroc/knn": 0.9}
    write_diagram(
        [*results, result(started=20, dataset__name="other", metrics=other)],
        "auroc",
        tmp_path / "ranks.pdf",
        significance=0.05,
    )
    ((axes, ranks, length),) = drawn
    assert ranks == {"msp": pytest.approx(1.2), "energy": pytest.approx(1.8)}
    assert length == pytest.approx(1.96 / math.sqrt(5), abs=1e-3)
    assert axes.get_title().startswith("auroc: mean rank in 5 runs (Friedman's test: p = 0.18")
    assert (tmp_path / "ranks.pdf").read_bytes().startswith(b"%PDF")
    write_diagram(trials(0.9), "fpr_at_95tpr_known", tmp_path / "ranks.png", significance=0.05)
    assert drawn[-1][1] == {"msp": pytest.approx(1.5), "energy": pytest.approx(1.5)}
    lower = trials(0.9)
    for run in lower:
        run.metrics["fpr_at_95tpr_known/msp"] = 0.5
    write_diagram(lower, "fpr_at_95tpr_known", tmp_path / "ranks.png", significance=0.05)
    assert drawn[-1][1] == {"msp": 2, "energy": 1}
    with pytest.raises(InputError, match="with auroc of all of them, not 2 and 1;"):
        write_diagram([result()], "auroc", tmp_path / "ranks.pdf", significance=0.05)


# ---- missing trials


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
        "digits, protocol A, unknown sources "
        '[{source:far,name:svhn},{source:near,name:arrays,folder:"my images"}]'
    )


# ---- formats


def test_short_keys():
    assert short_keys(["train.lr", "model.neck.name", "model.backbone.name", "name"]) == [
        "lr",
        "neck.name",
        "backbone.name",
        "name",
    ]
    assert short_keys(["train.seed", "evaluate.seed"]) == ["train.seed", "evaluate.seed"]


def two_methods():
    lines = (
        Line(
            Method("msp", (("train.lr", "0.1"), ("model.x_y", "a|b%"))),
            5,
            {"auroc": Cell(0.9, 0.88, 0.92, 5, True)},
        ),
        Line(Method("mav", (("train.lr", "0.2"),)), 1, {"auroc": Cell(0.5, math.nan, math.nan, 1, False)}),
    )
    return Section("digits, protocol A", ("train.lr", "model.x_y"), ("auroc",), lines, ("A note.",))


def test_markdown():
    assert to_markdown([two_methods()]) == (
        "### digits, protocol A\n\n"
        "| lr | x_y | detector | n | auroc |\n| --- | --- | --- | ---: | ---: |\n"
        "| 0.1 | a\\|b% | msp | 5 | **0.900 ± 0.020** |\n| 0.2 | – | mav | 1 | 0.500 |\n\nA note.\n"
    )


def test_latex():
    assert to_latex([two_methods()]).splitlines() == [
        "% digits, protocol A",
        "% A note.",
        r"\begin{tabular}{lllrr}",
        r"\toprule",
        r"lr & x\_y & detector & n & auroc \\",
        r"\midrule",
        r"0.1 & a\textbar{}b\% & msp & 5 & {\boldmath$0.900 \pm 0.020$} \\",
        r"0.2 & -- & mav & 1 & $0.500$ \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert latex_escape(r"\~^&%$#_{}") == (
        r"\textbackslash{}\textasciitilde{}\textasciicircum{}\&\%\$\#\_\{\}"
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


# ---- the command, with a store and with files


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A workspace whose store holds five trials, a running row, and one that has not come to evaluate."""
    root = tmp_path_factory.mktemp("compare")
    shutil.copy(ROOT / "params.yaml", root)
    with pytest.MonkeyPatch.context() as patch:
        for name in FOREIGN:
            patch.delenv(name, raising=False)
        store = connect(root)
        for run in trials(0.9)[:4]:
            write(store, run, status="FINISHED", evaluate="done" if run.started % 2 else "cached")
        write(store, result(started=50, train__lr=7), status="FAILED", evaluate="done")
        write(store, result(started=51, train__lr=8), status="FINISHED", evaluate="FAILED: ValueError")
    return root


def write(store: Store, run: Result, *, status: str, evaluate: str) -> None:
    run_id = store.client.create_run(store.experiment, start_time=run.started).info.run_id
    params = [Param(key, value) for key, value in run.params.items() if key != DIGEST]
    metrics = [Metric(key, value, 0, 0) for key, value in run.metrics.items()]
    tags = [RunTag(DIGEST, run.digest), RunTag("osr.stage.evaluate", evaluate)]
    store.client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
    store.client.set_terminated(run_id, status)


@pytest.fixture
def workspace(stored, monkeypatch):
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(stored)
    return stored


def test_rows_of_the_client_and_of_the_file_are_the_same(workspace, monkeypatch):
    monkeypatch.setattr("pipeline.tracking.finished_rows._ROWS_PER_CALL", 2)
    store = connect(workspace)
    of_client = list(rows_of_client(store))
    of_file = rows_of_file(f"{workspace}/mlflow.db", store.experiment)
    assert [row.started for row in of_client] == [51, 4, 3, 2, 1]
    for one, two in zip(of_client, of_file, strict=True):
        assert one[:3] == two[:3]
        assert (one.params, one.tags) == (two.params, two.tags)
        np.testing.assert_equal(dict(one.metrics), dict(two.metrics))
    assert math.isnan(of_file[1].metrics["ccr_at_fpr_0.001/msp"])
    results = read_store(store)
    assert [run.started for run in results] == [4, 3, 2, 1]
    assert results[0].digest == "digest digits 3 0"
    assert results[0].params["train.lr"] == DEFAULTS["train.lr"]
    assert results[0].metrics["auroc/msp"] == pytest.approx(0.92)
    # The same as sources of `osr leaderboard merge`, which connects to nothing it could change.
    monkeypatch.setattr(other_stores, "check_answers", lambda _uri: None)
    monkeypatch.setattr(other_stores, "client_of", lambda _uri: store.client)
    for source in ("mlflow.db", f"sqlite:///{workspace}/mlflow.db", "http://somewhere"):
        there = read_source(source)
        assert [run.name for run in there] == [f"{source}: {run.name}" for run in results]
        assert [run.params for run in there] == [run.params for run in results]


def test_other_tables_are_left_to_the_client(workspace, monkeypatch):
    store = connect(workspace)
    monkeypatch.setattr("pipeline.tracking.finished_rows._FINISHED", "FROM executions WHERE experiment = ?")
    assert len(finished_rows(store)) == 5


@pytest.mark.usefixtures("workspace")
def test_table_of_the_store(capsys):
    assert cli.main(["compare"]) == 0
    printed = capsys.readouterr().out
    half = stats.t.ppf(0.975, 3) * stats.sem(NOISE[:4])
    assert f"{0.9 + NOISE[:4].mean():.3f} ± {half:.3f}*" in printed
    assert "Not run: split.trial 4; --missing prints the command that does." in printed
    assert "Left out" not in printed
    assert cli.main(["compare", "--missing"]) == 0
    assert capsys.readouterr().out == "dvc exp run --queue -S split.trial=4\n"


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
    _print_missing([result(dataset__name="folder", split__protocol="explicit", split__known="['a', 'b']")])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "# no trial is missing"
    assert all(line.startswith("# ") for line in printed), "a shell passes over all of it"
    assert [line for line in printed if line.startswith("# sweep digits_a does not go with these settings: ")]


@pytest.mark.usefixtures("workspace")
def test_csv_to_a_file(capsys, tmp_path):
    target = tmp_path / "table.csv"
    assert cli.main(["compare", "--format", "csv", "--metrics", "auroc", "--out", str(target)]) == 0
    assert capsys.readouterr().out == ""
    rows = list(csv.DictReader(io.StringIO(target.read_text())))
    assert [(row["detector"], row["metric"], row["n"], row["best"]) for row in rows] == [
        ("msp", "auroc", "4", "true"),
        ("energy", "auroc", "4", "false"),
    ]
    assert float(rows[0]["mean"]) == pytest.approx(0.9 + NOISE[:4].mean(), abs=1e-15)
    assert cli.main(["compare", "--out", str(target)]) == 0
    assert target.read_text().startswith("task,"), "its ending says what it is to hold"
    assert cli.main(["compare", "--out", str(tmp_path / "table")]) == 0
    assert "digits, protocol A" in (tmp_path / "table").read_text()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--metrics", "aurok"], "did you mean 'auroc'?"),
        (["--where", "train.lr=7"], "no run is left"),
        (
            ["--out", "nowhere/table.md", "--format", "markdown"],
            "nowhere/table.md cannot be written: No such file or directory.",
        ),
        (["--out", "/tmp"], "/tmp is a folder or a device, but must be a file to write."),
        (["--diagram", "/tmp"], "--diagram /tmp must end in .png, .pdf, .svg."),
        (["--files"], "metrics/evaluate.json is missing: run `dvc repro` to make it."),
    ],
)
def test_bad_input_is_one_sentence_and_status_1(capsys, arguments, sentence):
    assert cli.main(["compare", *arguments]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ERROR")]
    assert sentence in line


@pytest.mark.usefixtures("workspace")
def test_unreachable_store_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert cli.main(["compare"]) == 1
    said = capsys.readouterr().err
    assert "MLflow cannot be read (ConnectionError: http://127.0.0.1 does not answer" in said
    assert "--files compares" in said


def test_files_of_the_present_run_compare_detectors_on_the_same_images(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, -1], 60)
    good = np.where(label < 0, 2.0, 0.0) + rng.normal(size=180)
    scores = {"good": good, "twin": 2 * good + 0.01 * rng.normal(size=180), "bad": rng.normal(size=180)}
    monkeypatch.chdir(tmp_path)
    settings = (
        (ROOT / "params.yaml").read_text().replace("bootstrap_replicates: 1000", "bootstrap_replicates: 200")
    )
    Path("params.yaml").write_text(settings)
    for folder in ("metrics", "artifacts/split", "artifacts/evaluation"):
        Path(folder).mkdir(parents=True)
    Path("artifacts/split/split.json").write_text('{"digest": "abc"}')
    arrays = {"label": label, "prediction": label, **{f"score_{k}": v for k, v in scores.items()}}
    write_arrays(SCORES, "test scores", {}, Origin(), arrays)
    metrics = {
        "auroc": {"good": 0.92, "twin": 0.919, "bad": 0.5},
        "auroc_low": {"good": 0.87, "twin": 0.869, "bad": 0.4},
        "auroc_high": {"good": 0.97, "twin": 0.969, "bad": 0.6},
        "closed_set": {"accuracy": 1.0, "nll": None},
        "intervals": {"by_group": 0},
    }
    Path("metrics/evaluate.json").write_text(json.dumps(metrics))
    assert (
        cli.main(["compare", "--files", "--format", "markdown", "--metrics", "auroc", "closed_set/accuracy"])
        == 0
    )
    printed = capsys.readouterr().out
    for line in (
        "| good | 1 | **0.920 [0.870, 0.970]** | 1.000 |",
        "| bad | 1 | 0.500 [0.400, 0.600] | 1.000 |",
    ):
        assert line in printed
    assert "paired bootstrap over the images" in printed
    assert "whose width comes from a bootstrap over its images.\n" in printed
    assert "Not run" not in printed
    write_arrays(SCORES, "test scores", {}, Origin(), {**arrays, "group": np.arange(180) // 2})
    Path("metrics/evaluate.json").write_text(json.dumps(metrics | {"intervals": {"by_group": 1}}))
    assert cli.main(["compare", "--files", "--metrics", "auroc"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "paired bootstrap over groups of images" in printed
    assert "bootstrap over whole groups of images that belong together." in printed


def test_help(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["compare", "--help"])
    assert left.value.code == 0
    assert "--missing" in capsys.readouterr().out
