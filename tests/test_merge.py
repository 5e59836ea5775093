"""`osr leaderboard merge`: rows of folders and stores, their digests, ranks, and the commands of each row."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from compared_runs import DEFAULTS, ROOT, result, trials
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from recorded_run import record
from tracking_server import Server

from osr.errors import InputError
from pipeline import cli
from pipeline.comparing.diagram import ranked
from pipeline.comparing.merge import check_digests, commands, rank_lines
from pipeline.tracking import rows_in_bulk
from pipeline.tracking.other_stores import read_source
from pipeline.tracking.results import COMMIT, DIGEST, SPLIT_DIGEST

TABLES = (
    "experiments (experiment_id, name)",
    "runs (run_uuid, name, start_time, experiment_id, status, lifecycle_stage)",
    "params (run_uuid, key, value)",
    "tags (run_uuid, key, value)",
    "latest_metrics (run_uuid, key, value, is_nan)",
)


def marked(run, *, commit="c" * 40):
    """A run with the digest of its split and its commit, as rows of MLflow have them."""
    split = f"split of {run.digest}"
    return replace(run, params={**run.params, SPLIT_DIGEST: split, COMMIT: commit})


def store(path, runs, *, experiment="osr"):
    """An mlflow.db, as far as it is read; tests/test_compare.py reads a real one."""
    with closing(sqlite3.connect(path)) as tables:
        for table in TABLES:
            tables.execute(f"CREATE TABLE {table}")
        tables.execute("INSERT INTO experiments VALUES (7, ?)", (experiment,))
        for number, run in enumerate(runs):
            run_id = f"run{number}"
            row = (run_id, run.name, run.started, "7", "FINISHED", "active")
            tables.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", row)
            tags = {key: run.params[key] for key in (DIGEST, SPLIT_DIGEST, COMMIT) if key in run.params}
            tags["osr.stage.evaluate"] = "done"
            held = {"params": {key: run.params[key] for key in run.params.keys() - tags.keys()}, "tags": tags}
            for table, pairs in held.items():
                rows = [(run_id, key, value) for key, value in pairs.items()]
                tables.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
            values = [(run_id, key, value, 0) for key, value in run.metrics.items() if value == value]
            tables.executemany("INSERT INTO latest_metrics VALUES (?, ?, ?, ?)", values)
        tables.commit()
    return path


def log_rows(uri, runs, *, ends="FINISHED"):
    """Rows as the stages write them, through MLflow's client."""
    client = MlflowClient(uri)
    held = client.get_experiment_by_name("osr")
    experiment = held.experiment_id if held else client.create_experiment("osr")
    for run in runs:
        made = client.create_run(experiment, run_name=run.name, start_time=run.started + 1)
        tags = {key: run.params[key] for key in (DIGEST, SPLIT_DIGEST, COMMIT)}
        params = [Param(key, value) for key, value in run.params.items() if key not in tags]
        tags = [RunTag(key, value) for key, value in (tags | {"osr.stage.evaluate": "done"}).items()]
        metrics = [Metric(key, value, 1, 0) for key, value in run.metrics.items()]
        client.log_batch(made.info.run_id, metrics=metrics, tags=tags)
        for first in range(0, len(params), 100):
            client.log_batch(made.info.run_id, params=params[first : first + 100])
        client.set_terminated(made.info.run_id, ends)


def folder(path, run):
    """A project with a finished run, as far as it is read."""
    (path / "artifacts/split").mkdir(parents=True)
    (path / "metrics").mkdir()
    (path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    digests = {"digest": run.params[SPLIT_DIGEST], "test_digest": run.params[DIGEST]}
    (path / "artifacts/split/split.json").write_text(json.dumps(digests))
    metrics = {"auroc": {"msp": 0.91, "energy": 0.8}, "auoscr": {"msp": 0.9, "energy": 0.8}}
    metrics["closed_set"] = {"accuracy": 0.95}
    (path / "metrics/evaluate.json").write_text(json.dumps(metrics))
    record(path)
    return path


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Two people's stores, with other places of the data and other settings, and the folder of a third."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    mine = [marked(run) for run in trials(0.9)]
    yours = trials(0.8, dataset__root="/elsewhere", train__loss="logitnorm", train__num_workers=9)
    store(Path("mine.db"), mine)
    store(Path("yours.db"), [marked(run, commit="d" * 40) for run in yours])
    folder(Path("theirs"), mine[0])
    return ["mine.db", "sqlite:///yours.db", "theirs"]


def test_the_table_says_all(sources, capsys):
    assert cli.main(["leaderboard", "merge", *sources[:2], "--out", "board"]) == 0
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    # Trials scatter by 0, ±0.01 and ±0.02: the t-interval is 2.776 * 0.015811 / sqrt(5) wide.
    assert ["ce", "msp", "5", "0.900", "±", "0.020*", "0.900", "±", "0.000*", "0.900", "±", "0.000*"] in lines
    assert any(line[:6] == ["logitnorm", "energy", "5", "0.702", "±", "0.019"] for line in lines)
    # Places of the data and workers set nothing apart.
    assert "/elsewhere" not in said
    assert "Mean ranks by auroc in 5 runs (Friedman's test: p = " in said
    assert "msp loss=ce 1.00" in said
    assert "Critical difference 2.10 at 0.05 (Nemenyi's test)" in said  # 2.569 sqrt(4 * 5 / (6 * 5))
    again = "dvc exp run --queue -S split.trial=0,1,2,3,4 && dvc queue start"
    assert f"msp, energy: from mine.db, commit cccccccc. Again: {again}" in said
    theirs = "dvc exp run --queue -S split.trial=0,1,2,3,4 -S train.loss=logitnorm && dvc queue start"
    assert f"msp, energy: from sqlite:///yours.db, commit dddddddd. Again: {theirs}" in said
    assert Path("board.md").read_text().count("Again: dvc exp run") == 2
    assert Path("board.csv").read_text().count("\n") == 1 + 2 * 2 * 3
    assert Path("board.png").stat().st_size > 10_000


def test_a_folder_is_a_run(sources, capsys):
    (run,) = read_source(sources[2])
    assert (run.name, run.metrics["auroc/msp"]) == ("theirs: its present run", 0.91)
    assert cli.main(["leaderboard", "merge", "theirs"]) == 0
    said = capsys.readouterr().out
    assert "No critical difference: it needs at least 2 methods and 2 runs" in said
    assert "from theirs, commit unknown. Again: dvc exp run --queue && dvc queue start" in said
    # The same trial and settings once more: the newer of the two counts, and it is said.
    assert cli.main(["leaderboard", "merge", "mine.db", "theirs", "--where", "split.trial=0"]) == 0
    assert "Left out for a newer run of the same settings and seeds: 1 run" in capsys.readouterr().out


@pytest.mark.ci
@pytest.mark.usefixtures("sources")
def test_a_server_answers_with_the_rows_of_its_store(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(rows_in_bulk, "_ROWS_PER_CALL", 2)
    behind = f"sqlite:///{tmp_path}/served.db"
    server = Server(tmp_path, SimpleNamespace(uri=behind, environment={}))
    try:
        server.start()
        assert cli.main(["leaderboard", "merge", server.uri]) == 1
        assert f"{server.uri} holds no finished run" in capsys.readouterr().err
        runs = [marked(run, commit="d" * 40) for run in trials(0.8, train__loss="logitnorm")]
        log_rows(server.uri, runs)
        log_rows(server.uri, [marked(result(split__trial=0, digest="other"))], ends="FAILED")
        found = read_source(server.uri)
        direct = read_source(behind)
        assert [(run.started, run.params) for run in found] == [(run.started, run.params) for run in direct]
        assert [run.metrics["auroc/msp"] for run in found] == [run.metrics["auroc/msp"] for run in direct]
        assert {run.params["split.trial"] for run in found} == set("01234")
        # With a folder and a file beside it.
        assert cli.main(["leaderboard", "merge", server.uri, "theirs", "mine.db"]) == 0
        said = capsys.readouterr().out
        assert any(
            line.split()[:6] == ["logitnorm", "energy", "5", "0.702", "±", "0.019"]
            for line in said.splitlines()
        )
        again = "dvc exp run --queue -S split.trial=0,1,2,3,4 -S train.loss=logitnorm && dvc queue start"
        assert f"msp, energy: from {server.uri}, commit dddddddd. Again: {again}" in said
        assert "Critical difference 2.10 at 0.05 (Nemenyi's test)" in said
        # Their images are others: refused by where they are.
        log_rows(server.uri, [marked(result(split__trial=0, digest="other"))])
        assert cli.main(["leaderboard", "merge", "mine.db", server.uri]) == 1
        assert f"the test images of {server.uri}: " in capsys.readouterr().err
    finally:
        server.kill()


def test_other_digests_are_refused_by_name(sources, capsys):
    other = [marked(result(split__trial=1, digest="other"))]
    store(Path("other.db"), other)
    assert cli.main(["leaderboard", "merge", *sources, "other.db"]) == 1
    said = capsys.readouterr().err
    assert "digits, protocol A, split.trial 1, split.seed 0: the test images of other.db: run 1" in said
    assert "(other) are not those of mine.db: run 2" in said
    runs = [marked(run) for run in trials(0.9)]
    check_digests(runs)
    moved = replace(runs[2], name="moved", params={**runs[2].params, SPLIT_DIGEST: "moved"})
    with pytest.raises(InputError, match=r"split.seed 0: the split of moved \(moved\) are not"):
        check_digests([*runs, moved])
    bare = replace(runs[0], name="old", params={**runs[0].params, SPLIT_DIGEST: ""})
    with pytest.raises(InputError, match="old has no digests of split and test images"):
        check_digests([bare])


def test_what_is_no_source(sources, capsys, monkeypatch):
    Path("text.db").write_text("no store")
    store(Path("empty.db"), [])
    Path("nothing").mkdir()
    for words, told in (
        (["merge"], "needs folders, mlflow.db files or addresses"),
        (["merge", "nothing"], "nothing must be a folder with params.yaml and a finished run"),
        (["merge", "text.db"], "text.db cannot be read as a store of MLflow"),
        (["merge", "sqlite:///none.db"], "none.db cannot be read as a store of MLflow"),
        (["merge", "empty.db"], "empty.db holds no finished run"),
        (["merge", "http://127.0.0.1:9"], "http://127.0.0.1:9 cannot be read as a store of MLflow"),
        (["merge", "mine.db", "--where", "train.lr=7"], "no run is left"),
        (["one.json", "two.json"], "two.json: only one file of metrics is read"),
        (["one.json", "--metrics", "auroc"], "go with `osr leaderboard merge` alone"),
    ):
        assert cli.main(["leaderboard", *words]) == 1
        assert told in capsys.readouterr().err
    assert not Path("none.db").exists()
    Path("theirs/params.yaml").write_text("train: 3")
    with pytest.raises(InputError, match=r"^theirs: params.yaml: train is 3"):
        read_source(sources[2])
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    with pytest.raises(InputError, match="holds no finished run"):
        read_source("mine.db")


def test_commands_of_a_part_of_a_grid_are_one_per_run():
    current = DEFAULTS
    whole = [result(split__trial=trial, train__seed=seed) for trial in (10, 9) for seed in (0, 1)]
    grid = "dvc exp run --queue -S split.trial=9,10 -S train.seed=0,1 && dvc queue start"
    assert commands(whole, current) == [grid]
    assert commands(whole[:3], current) == [
        "dvc exp run --queue -S split.trial=10 && dvc queue start",
        "dvc exp run --queue -S split.trial=10 -S train.seed=1 && dvc queue start",
        "dvc exp run --queue -S split.trial=9 && dvc queue start",
    ]


def test_methods_that_are_not_told_apart_are_named():
    found = ranked(trials(0.9), "auroc", significance=0.05)
    first, second = rank_lines(found)
    assert first.endswith("msp 1.00, energy 2.00")
    assert second.startswith("Critical difference 0.88 at 0.05")  # 1.960 sqrt(2 * 3 / (6 * 5))
    assert second.endswith("apart: none.")
    closer = list(rank_lines(found._replace(critical_difference=1.5)))
    assert closer[1].endswith("apart: msp, energy.")
