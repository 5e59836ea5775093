"""osr compare: the command with a store and with files, and its formats."""

import csv
import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from compared_runs import DEFAULTS, NOISE, ROOT, result, trials
from foreign_variables import forget_foreign
from mlflow.entities import Metric, Param, RunTag
from recorded_run import record
from scipy import stats

from osr.stored.arrays import write_arrays
from osr.stored.origin import Origin
from pipeline import cli
from pipeline.comparing.grouping import Method
from pipeline.comparing.summary import Cell, Line, Section
from pipeline.comparing.tables import latex_escape, short_keys, to_latex, to_markdown
from pipeline.tracking import other_stores
from pipeline.tracking.other_stores import read_source
from pipeline.tracking.results import DIGEST, Result, read_store
from pipeline.tracking.rows_in_bulk import read_rows, rows_of_client, rows_of_file
from pipeline.tracking.store import OWNER, STAGE, Store, connect
from pipeline.workspace.stages import SCORES


def test_short_keys():
    assert short_keys(["train.lr", "model.neck.name", "model.backbone.name", "name"]) == [
        "lr",
        "neck",
        "backbone",
        "name",
    ]
    assert short_keys(["model.head.name", "losses.head"]) == ["model.head", "losses.head"]
    assert short_keys(["model.head.name", "model.head.temperature"]) == ["head", "temperature"]
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


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store of five trials, one of them killed, and of rows that have not come to evaluate."""
    root = tmp_path_factory.mktemp("compare")
    shutil.copy(ROOT / "params.yaml", root)
    with pytest.MonkeyPatch.context() as patch:
        forget_foreign(patch)
        store = connect(root)
        for run in trials(0.9)[:4]:
            status = "RUNNING" if run.started == 2 else "FINISHED"  # it draws its plots
            write(store, run, status=status, evaluate="done" if run.started % 2 else "cached")
        write(store, result(started=50, train__lr=7), status="FAILED", evaluate="done")
        write(store, result(started=51, train__lr=8), status="FINISHED", evaluate="FAILED: ValueError")
        write(
            store, trials(0.9)[4], status="KILLED", evaluate="done"
        )  # no report, no pictures: it is to go on
        write(store, result(started=52, train__lr=9), status="RUNNING", evaluate="running")
    return root


def write(store: Store, run: Result, *, status: str, evaluate: str) -> None:
    run_id = store.client.create_run(store.experiment, start_time=run.started).info.run_id
    params = [Param(key, value) for key, value in run.params.items() if key != DIGEST]
    metrics = [Metric(key, value, 0, 0) for key, value in run.metrics.items()]
    tags = [RunTag(DIGEST, run.digest), RunTag(f"{STAGE}evaluate", evaluate)]
    tags.append(RunTag(OWNER, "elsewhere:1:1.0"))
    store.client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
    if status != "RUNNING":
        store.client.set_terminated(run_id, status)


@pytest.fixture
def workspace(stored, monkeypatch):
    forget_foreign(monkeypatch)
    monkeypatch.chdir(stored)
    return stored


def test_rows_of_the_client_and_of_the_file_are_the_same(workspace, monkeypatch):
    monkeypatch.setattr("pipeline.tracking.rows_in_bulk._ROWS_PER_CALL", 2)
    store = connect(workspace)
    of_client = list(rows_of_client(store))
    of_file = rows_of_file(f"{workspace}/mlflow.db", store.experiment)
    assert [row.started for row in of_client] == [52, 51, 4, 3, 2, 1]
    for one, two in zip(of_client, of_file, strict=True):
        assert (*one[:3], one.status) == (*two[:3], two.status)
        assert (one.params, one.tags) == (two.params, two.tags)
        np.testing.assert_equal(dict(one.metrics), dict(two.metrics))
    assert math.isnan(of_file[2].metrics["ccr_at_fpr_0.001/msp"])
    results, going = read_store(store)
    assert [(run.started, run.host) for run in going] == [(52, "elsewhere")]
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
    monkeypatch.setattr("pipeline.tracking.rows_in_bulk._READ", "FROM executions WHERE experiment = ?")
    assert len(read_rows(store)) == 6


@pytest.mark.usefixtures("workspace")
def test_table_of_the_store(capsys, caplog):
    assert cli.main(["compare"]) == 0
    printed = capsys.readouterr().out
    (told,) = caplog.messages
    assert told.startswith("not in the table: 1 experiment runs, or waits in DVC's queue (")
    half = stats.t.ppf(0.975, 3) * stats.sem(NOISE[:4])
    assert f"{0.9 + NOISE[:4].mean():.3f} ± {half:.3f}*" in printed
    assert (
        "Not run of the protocol's 5 trials: split.trial 4; --missing prints the command that does."
        in printed
    )
    assert "Left out" not in printed
    assert cli.main(["compare", "--missing"]) == 0
    assert capsys.readouterr().out == "dvc exp run --queue -S split.trial=4\n"


@pytest.mark.usefixtures("workspace")
def test_rows_of_one_detector(capsys):
    assert cli.main(["compare", "--detector", "energy", "--metrics", "auroc", "fpr_at_95tpr_known"]) == 0
    printed = capsys.readouterr().out
    assert "energy" in printed
    assert "msp" not in printed
    assert "Smaller is better: fpr_at_95tpr_known." in printed
    assert cli.main(["compare", "--detector", "enrgy"]) == 1
    assert "no run has this detector; did you mean 'energy'?" in capsys.readouterr().err


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
        (["--where", "train.los=ce"], "no run has this parameter; did you mean 'train.loss'?"),
        (
            ["--out", "nowhere/table.md", "--format", "markdown"],
            "nowhere/table.md cannot be written: No such file or directory.",
        ),
        (["--out", "/tmp"], "/tmp is a folder or a device, but must be a file to write."),
        (["--diagram", "/tmp"], "--diagram /tmp must end in .png, .pdf, .svg."),
        (["--files"], "metrics/evaluate.json is missing: `osr run` makes it."),
    ],
)
def test_bad_input_is_one_sentence_and_status_1(capsys, arguments, sentence):
    assert cli.main(["compare", *arguments]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ERROR")]
    assert sentence in line


def test_where_nothing_is_nothing_is_made(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forget_foreign(monkeypatch)
    assert cli.main(["compare"]) == 1
    assert capsys.readouterr().err.startswith(
        "ERROR: There is no store of MLflow here, and no project. Go into"
    )
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    assert cli.main(["compare", "--where", "train.loss=ce"]) == 1
    assert "MLflow holds no finished run with test metrics: `osr run` makes one." in capsys.readouterr().err
    assert cli.main(["compare", "--missing"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


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
    record()
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
    record()
    assert cli.main(["compare", "--files", "--metrics", "auroc"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "paired bootstrap over groups of images" in printed
    assert "bootstrap over whole groups of images that belong together." in printed


def test_help(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["compare", "--help"])
    assert left.value.code == 0
    assert "--missing" in capsys.readouterr().out
