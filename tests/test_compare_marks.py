"""osr compare: means and intervals over trials, and which method is marked."""

import math

import pytest
from compared_runs import DEFAULTS, NOISE, cells, result, table, trials
from scipy import stats

from osr.errors import InputError
from pipeline import cli
from pipeline.comparing import compare
from pipeline.comparing.diagram import write_diagram
from pipeline.comparing.grouping import only_detectors
from pipeline.comparing.summary import Cell, leaves_its_range, lower_is_better
from pipeline.comparing.tables import to_markdown


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


def test_only_shares_leave_their_range():
    cells = [Cell(0.9, low, high, 3, False) for low, high in ((0.8, 1.0), (0.7, 1.1), (-0.1, 0.2))]
    assert [leaves_its_range("auroc", cell) for cell in cells] == [False, True, True]
    assert [leaves_its_range("closed_set/accuracy", cell) for cell in cells] == [False, True, True]
    assert not any(leaves_its_range("closed_set/nll", cell) for cell in [*cells, None])


def test_one_detector_is_kept_of_the_runs_that_have_it():
    runs = [*trials(0.9), *trials(0.895, started=9, train__loss="logitnorm")]
    (kept,) = table(only_detectors(runs, ["msp"]))
    assert {line.method.detector for line in kept.lines} == {"msp"}
    assert [line.cells["auroc"].mean for line in kept.lines] == pytest.approx([0.9, 0.895])
    other = result(started=99, metrics={"auroc/knn": 0.7, "closed_set/accuracy": 0.9})
    assert only_detectors([*runs, other], ["msp"]) == only_detectors(runs, ["msp"])
    assert only_detectors(runs, []) == runs


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


def test_a_column_of_several_runs_and_of_single_ones_is_warned_of(monkeypatch, caplog, capsys):
    """The table is often piped into a file: the warning stands on standard error."""
    single = result(started=9, train__loss="logitnorm", metrics={"auroc/msp": 0.8, "auroc_low/msp": 0.7})
    for results, is_mixed in (([*trials(0.9), single], True), (trials(0.9), False), ([single], False)):
        caplog.clear()
        monkeypatch.setattr(compare, "_stored", lambda results=results: compare.Stored(results, []))
        for form in ("terminal", "latex"):
            assert cli.main(["compare", "--metrics", "auroc", "--detector", "msp", "--format", form]) == 0
            assert ("A column holds both: ± says how far runs differ" in capsys.readouterr().out) == is_mixed
        told = "auroc: methods of several runs (±) beside methods of one run"
        assert [told in message for message in caplog.messages] == [True, True] * is_mixed


@pytest.mark.parametrize(
    ("metrics", "columns"),
    [
        ({"auroc/msp": 0.9, "estimate/auroc/msp": 0.8}, ["auroc", "auoscr"]),
        ({"estimate/auroc/msp": 0.8}, ["estimate/auroc", "estimate/unknown_rejection"]),
        ({}, []),
    ],
    ids=["unknowns", "estimates", "neither"],
)
def test_columns_that_nobody_asked_for_are_of_what_there_is(metrics, columns):
    run = compare.Result("a", 0, {}, {**metrics, "closed_set/accuracy": 0.9})
    assert compare.default_metrics([run]) == [*columns, "closed_set/accuracy"]


def test_an_interval_says_of_what_it_is(capsys, monkeypatch):
    ends = {
        f"{name}{end}/msp": 0.8 + 0.1 * step
        for step, end in enumerate(("_low", "", "_high"))
        for name in ("auroc", "estimate/auroc")
    }
    monkeypatch.setattr(compare, "_stored", lambda: compare.Stored([compare.Result("a", 0, {}, ends)], []))
    of_classes = "[low, high] of estimate/auroc: over known classes, each left out once, of one run."
    of_images = "whose width comes from a bootstrap over its images."
    for metrics, told in (
        ("auroc", (False, True)),
        ("estimate/auroc", (True, False)),
        ("auroc,estimate/auroc", (True, True)),
    ):
        assert cli.main(["compare", "--metrics", *metrics.split(","), "--format", "markdown"]) == 0
        said = capsys.readouterr().out
        assert (of_classes in said, of_images in said) == told
