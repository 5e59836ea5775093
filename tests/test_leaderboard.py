"""The leaderboard: order and drawn numbers of the figure, tables that read back, the tables of the docs."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from osr.errors import InputError
from osr.plots import style
from osr.plots.leaderboard import leaderboard
from pipeline import cli
from pipeline.report.leaderboard import (
    HEADLINES,
    columns,
    draw,
    order,
    read_csv,
    to_markdown,
    write_tables,
)

ROOT = Path(__file__).parents[1]
AUROC = {"msp": 0.7, "knn": 0.9, "energy": 0.8}


def metrics_of(auroc):
    """What evaluate writes, with auoscr and the FPR made of the AUROC: `energy` has the best FPR."""
    fpr = {name: 0.05 if name == "energy" else 1 - value for name, value in auroc.items()}
    values = {"auroc": auroc, "auoscr": {name: value - 0.1 for name, value in auroc.items()}}
    values["fpr_at_95tpr_known"] = fpr
    metrics = {"closed_set": {"accuracy": 0.9}}
    for metric, of in values.items():
        for end, shift in (("", 0), ("_low", -0.02), ("_high", 0.01)):
            metrics[metric + end] = {name: value + shift for name, value in of.items()}
    return metrics


@pytest.fixture
def board():
    return columns(metrics_of(AUROC))


def test_the_figure_shows_each_value_with_its_interval_in_one_order(board):
    with style.styled():
        panels = style.canvas(7, 2).subplots(1, 3, sharey=True)
        leaderboard(panels, board, lower_is_better=["fpr_at_95tpr_known"])
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["knn", "energy", "msp"]
    assert panels[0].get_ylim()[0] > panels[0].get_ylim()[1]  # the best on top
    for axes, metric, best in zip(panels, HEADLINES, ["knn", "knn", "energy"], strict=True):
        rows = {name: row for row, name in enumerate(["knn", "energy", "msp"])}
        (bars,) = axes.collections
        ends = [segment.tolist() for segment in bars.get_segments()]
        assert ends == [
            [[low, rows[n]], [high, rows[n]]] for n in rows for _, low, high in [board[metric][n]]
        ]
        _, dots, diamond = axes.get_lines()
        drawn = np.concatenate([dots.get_xydata(), diamond.get_xydata()])
        assert {tuple(point) for point in drawn} == {(board[metric][n][0], rows[n]) for n in rows}
        assert diamond.get_xydata().tolist() == [[board[metric][best][0], rows[best]]]
    assert [axes.get_xlabel().split("\n")[1].split()[0] for axes in panels] == ["higher", "higher", "lower"]


@pytest.mark.parametrize("count", [1, 3, 24])
def test_nothing_overlaps_or_is_cut_off(count, tmp_path):
    names = [*AUROC, *(f"a_detector_called_{i}" for i in range(count))][:count]
    with style.styled():
        style.save(draw(columns(metrics_of(dict.fromkeys(names, 0.7)))), tmp_path / "figure.png", 100)
    pixels = imread(tmp_path / "figure.png")[..., :3]
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (border == 1).all()
    with style.styled():
        figure = style.canvas(7, 0.8 + 0.16 * count)
        panels = figure.subplots(1, 3, sharey=True)
        leaderboard(panels, columns(metrics_of(dict.fromkeys(names, 0.7))), lower_is_better=[])
        figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in panels[0].get_yticklabels()]
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    labels = [axes.xaxis.label.get_window_extent() for axes in panels]
    assert not any(one.overlaps(other) for one, other in pairwise(labels))


def test_equal_detectors_stand_by_name():
    assert order(columns(metrics_of({"b": 0.5, "a": 0.5, "c": 0.6}))) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("values", "count", "sentence"),
    [
        ({}, 0, "at least one metric and one detector"),
        ({"auroc": {}}, 1, "at least one metric and one detector"),
        ({"auroc": {"msp": (1, 1, 1)}}, 2, "1 metrics need as many panels, not 2"),
        ({"auroc": {"msp": (1, 1, 1)}, "auoscr": {}}, 2, r"auoscr and auroc .* unlike \['msp'\]"),
    ],
)
def test_what_cannot_be_drawn_is_refused(values, count, sentence):
    panels = style.canvas(4, 2).subplots(1, max(count, 1), squeeze=False)[0][:count]
    with pytest.raises(InputError, match=sentence):
        leaderboard(panels, values, lower_is_better=[])


def test_csv_reads_back_to_the_same_bits(board, tmp_path):
    write_tables(board, tmp_path / "sub" / "board")
    assert read_csv(tmp_path / "sub" / "board.csv") == board
    assert (tmp_path / "sub" / "board.csv").read_text().splitlines()[1].startswith("knn,0.9,0.88,0.91,")


def test_markdown_has_one_row_per_detector_best_first(board):
    heading, _, *rows = to_markdown(board).splitlines()
    assert heading == "| detector | auroc | auoscr | fpr_at_95tpr_known |"
    assert rows[0] == "| knn | 0.900 [0.880, 0.910] | 0.800 [0.780, 0.810] | 0.100 [0.080, 0.110] |"
    assert [row.split(" | ")[0] for row in rows] == ["| knn", "| energy", "| msp"]


def test_the_command_writes_three_files(tmp_path):
    (tmp_path / "evaluate.json").write_text(json.dumps(metrics_of(AUROC)))
    assert (
        cli.main(["leaderboard", str(tmp_path / "evaluate.json"), "--out", str(tmp_path / "docs" / "toy")])
        == 0
    )
    assert sorted(path.name for path in (tmp_path / "docs").iterdir()) == ["toy.csv", "toy.md", "toy.png"]


def test_missing_metrics_are_one_sentence(tmp_path, capsys):
    assert cli.main(["leaderboard", str(tmp_path / "none.json"), "--out", str(tmp_path / "toy")]) == 1
    metrics = metrics_of(AUROC)
    del metrics["auoscr_low"]
    with pytest.raises(InputError, match="lack auoscr_low"):
        columns(metrics)
    assert "none.json is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("auroc", 5, "auroc must hold a number of each detector"),
        ("auroc", {}, "auroc must hold a number of each detector"),
        ("auroc", ["msp"], "auroc must hold a number of each detector"),
        ("auoscr_low", {"msp": 0.5}, "auoscr_low must hold a number of each detector"),
        ("auroc_high", dict.fromkeys(AUROC, "much"), r"auroc_high.msp must be a number in 0..1, not 'much'"),
        ("auroc_high", dict.fromkeys(AUROC, None), r"auroc_high.msp must be a number in 0..1, not None"),
        ("auoscr", dict.fromkeys(AUROC, 10**400), r"auoscr.msp must be a number in 0..1, not 1000"),
        ("auoscr", dict.fromkeys(AUROC, float("nan")), r"auoscr.msp must be a number in 0..1, not nan"),
    ],
)
def test_metrics_that_evaluate_did_not_write_are_one_sentence(key, value, said):
    with pytest.raises(InputError, match=said):
        columns(metrics_of(AUROC) | {key: value})


@pytest.mark.parametrize("name", ["mnist_a0", "cifar10_8_2", "cifar10_8_2_resnet18"])
def test_the_tables_of_the_docs_are_those_of_their_csv(name):
    folder = ROOT / "docs" / "leaderboard"
    table = to_markdown(read_csv(folder / f"{name}.csv"))
    assert (folder / f"{name}.md").read_text(encoding="utf-8") == table
    assert table in (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
