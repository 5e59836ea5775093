"""osr compare says where no difference could be tested, and why; it claims no test that there was not."""

import pytest
from compared_runs import result, trials

from pipeline import cli
from pipeline.comparing import compare

NO_DIFFERENCE = "no difference from the best is significant"
SINGLE = {"auroc/msp": 0.99, "closed_set/accuracy": 0.95}


@pytest.fixture
def said(monkeypatch, capsys):
    """What the command prints of these runs."""

    def of(results, *metrics):
        monkeypatch.setattr(compare, "_stored", lambda: compare.Stored(list(results), []))
        words = ["compare", "--detector", "msp", "--format", "markdown", "--metrics", *metrics]
        assert cli.main(words) == 0
        return capsys.readouterr().out

    return of


def test_a_best_of_one_run_is_tested_against_nothing(said):
    several = [*trials(0.9), *trials(0.9, started=10, train__loss="arpl")]
    single = result(started=30, train__loss="logitnorm", metrics=SINGLE)
    told = said([*several, single], "auroc")
    assert NO_DIFFERENCE not in told
    assert (
        "Nothing was tested in auroc, because the best there has one run: --where leaves it out, and more "
        "trials or seeds of it make a test." in told
    )
    assert "Nothing is marked: no method differs from another." in said(several, "auroc")
    for wave, run in enumerate(several[5:]):
        run.metrics["auroc/msp"] += 0.01 * (-1) ** wave
    told = said(several, "auroc")
    assert NO_DIFFERENCE in told
    assert "Nothing was tested" not in told


def test_each_metric_is_looked_at_alone(said):
    several = [*trials(0.8), *trials(0.9, started=10, train__loss="arpl")]
    for wave, run in enumerate(several[5:]):
        run.metrics["closed_set/accuracy"] += 0.01 * (-1) ** wave
    single = result(started=30, train__loss="logitnorm", metrics=SINGLE | {"closed_set/accuracy": 0.1})
    told = said([*several, single], "auroc", "closed_set/accuracy")
    assert "Marked: the best" in told
    assert "Nothing was tested in auroc, because" in told


def test_without_trials_in_common_there_is_no_test(said):
    first, second = trials(0.9)[:2], trials(0.8, started=10, train__loss="arpl")[2:4]
    told = said([*first, *second], "auroc")
    assert NO_DIFFERENCE not in told
    assert "because the best there has no two trials and seeds in common with another method." in told


def test_single_runs_alone_say_so_as_ever(said):
    told = said([result(), result(started=2, train__loss="arpl", metrics=SINGLE)], "auroc")
    assert "Nothing is marked: single runs show no differences; --files compares" in told
    assert "Nothing was tested" not in told


def test_what_was_not_tested_is_not_marked(said):
    several = [*trials(0.9), *trials(0.7, started=10, train__loss="arpl")]
    for wave, run in enumerate(several[5:]):
        run.metrics["auroc/msp"] += 0.001 * (-1) ** wave
    single = result(started=30, train__loss="logitnorm", metrics=SINGLE | {"auroc/msp": 0.89})
    told = said([*several, single], "auroc")
    assert "| ce | msp | 5 | **0.900" in told
    assert "| logitnorm | msp | 1 | 0.890 |" in told
    assert (
        "Not tested, and so not marked, for want of two trials and seeds in common with the best: 1 in"
        in told
    )
