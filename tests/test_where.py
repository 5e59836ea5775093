"""--where: what it keeps, in the spelling of -S, and what is said of runs and sweeps that it leaves out."""

import json
from dataclasses import replace

import pytest
from compared_runs import DEFAULTS, result, trials
from test_sweep import project  # noqa: F401 (fixture)

from osr.errors import InputError
from pipeline import cli
from pipeline.comparing import compare
from pipeline.comparing.conditions import matching, override, select
from pipeline.comparing.missing import command, gaps
from pipeline.experiments.sweep_file import FOLDER
from pipeline.tracking.results import Stored

ONE, OTHER = "['maxlogit', 'knn']", "['maxlogit', 'openmax']"


@pytest.fixture
def stored(monkeypatch):
    """Says what MLflow and DVC's queue hold."""
    monkeypatch.chdir(project_of := FOLDER.absolute().parent)
    monkeypatch.setattr(compare, "workspace_root", lambda: project_of)

    def hold(done, planned=(), going=()):
        monkeypatch.setattr(compare, "_stored", lambda: Stored(list(done), list(going)))
        monkeypatch.setattr(compare, "waiting", lambda _root, _stored: list(planned))

    return hold


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex"])
def test_what_where_leaves_out_is_neither_counted_nor_named(stored, capsys, caplog, form):
    waits = [replace(result(train__epochs=8, split__trial=trial), name=f"long-{trial}") for trial in (0, 1)]
    runs = [replace(result(train__epochs=9), name="going")]
    stored(trials(0.9, train__epochs=4), waits, runs)
    words = ["compare", "--metrics", "auroc", "--format", form]
    assert cli.main([*words, "--where", "train.epochs=4"]) == 0
    assert "Not run" not in capsys.readouterr().out
    assert caplog.messages == []
    assert cli.main(words) == 0
    assert "Not run" not in capsys.readouterr().out, "a waiting experiment has no row in the table"
    (told,) = caplog.messages
    assert told.startswith(
        "not in the table: 3 experiments run, or wait in DVC's queue (going, long-0, long-1"
    )


def test_trials_that_where_leaves_out_were_run_all_the_same(stored, capsys):
    stored([*trials(0.9)[:4]], [result(split__trial=4)])
    assert (
        cli.main(["compare", "--where", "split.trial=0", "--metrics", "auroc", "--format", "markdown"]) == 0
    )
    assert "Not run" not in capsys.readouterr().out, "trial 4 is to come"
    assert cli.main(["compare", "--where", "split.trial=0", "--missing"]) == 0
    assert capsys.readouterr().out.startswith("# no trial is missing\n")
    stored(trials(0.9)[:4])
    assert (
        cli.main(["compare", "--where", "split.trial=0", "--metrics", "auroc", "--format", "markdown"]) == 0
    )
    assert "Not run of the protocol's 5 trials: split.trial 4; --missing" in capsys.readouterr().out


def test_what_is_said_of_a_sweep_is_true_whatever_the_filter(stored, capsys):
    content = {"grid": {"train.epochs": [4, 8], "split.trial": [0, 1, 2, 3, 4]}}
    (FOLDER / "mine.yaml").write_text(json.dumps(content))
    stored([*trials(0.9, train__epochs=8), *trials(0.9, train__epochs=4)[:1]])
    for words in ([], ["--where", "train.epochs=4"], ["--where", "train.epochs=8"]):
        assert cli.main(["compare", "--missing", *words]) == 0
        said = capsys.readouterr().out
        assert "# sweep mine, 4 of 10 experiments not run: osr sweep mine --missing --queue" in said
        assert ("split.trial=1,2,3,4 -S train.epochs=4" in said) == ("train.epochs=8" not in words)


def test_each_list_of_detectors_has_its_own_missing_trials():
    runs = [result(split__trial=0, detectors__enabled=one) for one in (ONE, OTHER)]
    lines = [command(gap, DEFAULTS) for gap in gaps(runs)]
    assert lines == [
        f"dvc exp run --queue -S 'detectors.enabled=[maxlogit,{name}]' -S split.trial=1,2,3,4"
        for name in ("knn", "openmax")
    ]
    assert [gap.settings for gap in gaps(runs)] == [
        f"detectors.enabled=[maxlogit,{name}]" for name in ("knn", "openmax")
    ]
    more = [
        result(split__trial=trial, detectors__enabled="['knn', 'maxlogit', 'msp']") for trial in range(1, 5)
    ]
    assert [(gap.like.params["detectors.enabled"], gap.trials) for gap in gaps([*runs, *more])] == [
        (OTHER, (1, 2, 3, 4)),
        ("['knn', 'maxlogit', 'msp']", (0,)),
    ]


@pytest.mark.parametrize(
    ("key", "held", "wanted"),
    [
        ("detectors.enabled", ONE, ["[maxlogit,knn]", "[maxlogit, knn]", "['maxlogit', \"knn\"]", ONE]),
        ("train.compile", "True", ["true", "True"]),
        ("train.lr", "0.001", ["1e-3", "0.001"]),
        ("split.known", "[1, 2]", ["[1,2]"]),
        ("train.probe.penalties", "[1.0, 0.1]", ["[1.0,0.1]", "[1, 1e-1]"]),
        ("model.backbone.weights", "my weights.pth", ['"my weights.pth"', "my weights.pth"]),
        (
            "dataset.unknown_sources",
            "[{'source': 'far', 'name': 'svhn', 'root': None}]",
            ["[{source: far, name: svhn}]"],
        ),
    ],
)
def test_a_condition_is_spelt_as_for_a_run(key, held, wanted):
    run = replace(result(), params={**DEFAULTS, key: held})
    other = replace(result(), params={**DEFAULTS, key: "[7]"})
    for text in (*wanted, override(held)):
        assert matching([run, other], [f"{key}={text}"]) == [run], text
    with pytest.raises(InputError, match="no run is left; there are: ") as refused:
        select([run], [f"{key}=[other"])
    assert str(refused.value).endswith(f"there are: {override(held)}.")
    assert matching([run], ["train.compile=1"]) == []
