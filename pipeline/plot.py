"""Stage plot: figures for people, curves for `dvc plots`. No network runs here."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.calibration import reliability as reliability_table
from osr.config import Params
from osr.metrics import curves
from osr.outputs import Outputs
from osr.plots.confusion import confusion
from osr.plots.curves import oscr, precision_recall, roc, thin
from osr.plots.embedding import embed, embedding
from osr.plots.reliability import reliability
from osr.plots.scores import score_histogram
from osr.plots.style import COLUMN_WIDTH, PAGE_WIDTH, canvas, save, styled
from osr.plots.training import training_curves
from osr.splits import Split
from osr.thresholds import count_accepted
from pipeline import leaderboard
from pipeline.entry import Metrics, run_stage
from pipeline.stages import (
    CONFUSION,
    CURVES,
    FIGURES,
    HISTORY,
    LEADERBOARD,
    SCORES,
    SPLIT,
    STAGES,
    TEMPERATURE,
    TEST_OUTPUTS,
    THRESHOLDS,
    read_json,
)
from pipeline.tracking import Row

Array = NDArray[Any]
Pair = tuple[Array, Array]

MAX_CSV_POINTS = 1000


def plot(params: Params, _row: Row) -> Metrics:
    """Draw every figure and write the curves; return how many there are."""
    scores = load_scores()
    points: dict[str, dict[str, Pair]] = {
        name: detector_curves(scores, name) for name in params.detectors.enabled
    }
    FIGURES.mkdir(parents=True, exist_ok=True)
    with styled():
        draw_curves(points, params)
        draw_scores(scores, params)
        draw_calibration(params)
        draw_confusion(params)
        draw_training(params)
        draw_embedding(params)
    draw_leaderboard(params)
    write_curves(points)
    return {"figures": len(list(FIGURES.glob("*.png")))}


def load_scores() -> dict[str, Array]:
    """The arrays of scores.npz: index, label, prediction, and score_<detector> of each test image."""
    with np.load(SCORES, allow_pickle=False) as arrays:
        return dict(arrays)


def detector_curves(scores: Mapping[str, Array], name: str) -> dict[str, Pair]:
    """The OSCR, ROC and precision-recall points of one detector."""
    score, known = scores[f"score_{name}"], scores["label"] >= 0
    correct = (scores["prediction"] == scores["label"])[known]
    found = curves(count_accepted(score[known], correct, score[~known]))
    # ROC points fall from (1, 1); curves are drawn and written rising.
    return {
        "oscr": (found["oscr_fpr"], found["oscr_ccr"]),
        "roc": (found["roc_fpr"][::-1], found["roc_tpr"][::-1]),
        "precision_recall": (found["pr_unknown_recall"][::-1], found["pr_unknown_precision"][::-1]),
    }


def areas(metric: str, names: tuple[str, ...]) -> dict[str, tuple[float, float, float]]:
    """Estimate and interval of a headline metric per detector, as evaluate wrote them."""
    return leaderboard.intervals(read_json(STAGES["evaluate"].metrics), metric, names)


def draw_curves(points: Mapping[str, Mapping[str, Pair]], params: Params) -> None:
    """OSCR on both axes, ROC, precision-recall."""
    names, confidence = params.detectors.enabled, params.evaluate.confidence
    curve: dict[str, dict[str, Pair]] = {
        kind: {name: points[name][kind] for name in names} for kind in ("oscr", "roc", "precision_recall")
    }
    prevalence = read_json(STAGES["evaluate"].metrics)["prevalence"][names[0]]
    for suffix, log_x in (("", False), ("_log", True)):
        figure = canvas(COLUMN_WIDTH, 3.4)
        oscr(
            figure.subplots(),
            curve["oscr"],
            log_x=log_x,
            areas=areas("auoscr", names),
            confidence=confidence,
        )
        save(figure, FIGURES / f"oscr{suffix}.png", params.plot.dpi)
    figure = canvas(COLUMN_WIDTH, 3.4)
    roc(figure.subplots(), curve["roc"], areas=areas("auroc", names), confidence=confidence)
    save(figure, FIGURES / "roc.png", params.plot.dpi)
    figure = canvas(COLUMN_WIDTH, 3.4)
    precision_recall(
        figure.subplots(),
        curve["precision_recall"],
        prevalence=prevalence,
        areas=areas("aupr_unknown", names),
        confidence=confidence,
    )
    save(figure, FIGURES / "precision_recall.png", params.plot.dpi)


def draw_scores(scores: Mapping[str, Array], params: Params) -> None:
    """One histogram per detector with its threshold."""
    known, thresholds = scores["label"] >= 0, read_json(THRESHOLDS)
    for name in params.detectors.enabled:
        score = scores[f"score_{name}"]
        figure = canvas(COLUMN_WIDTH, 2.8)
        score_histogram(
            figure.subplots(),
            score[known],
            unknown_scores=score[~known],
            threshold=float(thresholds[name]["value"]),
            name=name,
        )
        save(figure, FIGURES / f"scores_{name}.png", params.plot.dpi)


def draw_calibration(params: Params) -> None:
    """Reliability of the known test images before and after the temperature."""
    outputs = Outputs.load(TEST_OUTPUTS)
    known = outputs.select(outputs.labels >= 0)
    temperature = float(read_json(TEMPERATURE)["temperature"])
    tables = {
        name: reliability_table(known.logits, known.labels, temperature=t, bins=params.calibrate.ece_bins)
        for name, t in (("before", 1.0), ("after", temperature))
    }
    figure = canvas(COLUMN_WIDTH, 3.4)
    columns = {name: vars(table) for name, table in tables.items()}
    reliability(figure.subplots(), columns, ece={name: table.ece() for name, table in tables.items()})
    save(figure, FIGURES / "reliability.png", params.plot.dpi)


def draw_confusion(params: Params) -> None:
    """Known classes and unknown, at the threshold of `plot.detector`."""
    matrix = np.array(read_json(CONFUSION)[params.plot.detector])
    figure = canvas(COLUMN_WIDTH, 3.4)
    axes = figure.subplots()
    confusion(axes, matrix, names=Split.load(SPLIT).known_names)
    axes.set_title(params.plot.detector)
    save(figure, FIGURES / "confusion.png", params.plot.dpi)


def draw_training(params: Params) -> None:
    """Loss and accuracy per epoch, the kept epoch marked."""
    with HISTORY.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    history = {column: np.array([float(row[column]) for row in rows]) for column in rows[0]}
    figure = canvas(PAGE_WIDTH, 2.8)
    left, right = figure.subplots(1, 2)
    best = int(read_json(STAGES["train"].metrics)["best"]["epoch"])
    training_curves((left, right), history, best_epoch=best)
    save(figure, FIGURES / "training.png", params.plot.dpi)


def draw_embedding(params: Params) -> None:
    """t-SNE of the test features; a random subset when there are more than `plot.tsne_images`."""
    outputs, settings = Outputs.load(TEST_OUTPUTS), params.plot
    rows = np.arange(len(outputs))
    title = f"t-SNE of {len(outputs)} test images"
    if len(outputs) > settings.tsne_images:
        generator = np.random.default_rng(settings.tsne_seed)
        rows = np.sort(generator.choice(rows, settings.tsne_images, replace=False))
        title = f"t-SNE of {len(rows)} of {len(outputs)} test images"
    shown = outputs.select(rows)
    points = embed(shown.features, perplexity=settings.tsne_perplexity, seed=settings.tsne_seed)
    figure = canvas(COLUMN_WIDTH, 3.6)
    embedding(
        figure.subplots(), points, labels=shown.labels, names=Split.load(SPLIT).known_names, title=title
    )
    save(figure, FIGURES / "tsne.png", settings.dpi)


def draw_leaderboard(params: Params) -> None:
    """All detectors with their headline metrics, as a table and as a figure."""
    board = leaderboard.columns(read_json(STAGES["evaluate"].metrics))
    leaderboard.write_tables(board, LEADERBOARD / "leaderboard")
    leaderboard.draw(board, FIGURES / "leaderboard.png", params.plot.dpi)


def write_curves(points: Mapping[str, Mapping[str, Pair]]) -> None:
    """One CSV per curve and detector, thinned without changing its look."""
    columns = {"oscr": ("fpr", "ccr"), "roc": ("fpr", "tpr"), "precision_recall": ("recall", "precision")}
    for name, kinds in points.items():
        for kind, pair in kinds.items():
            write_curve(CURVES / kind / f"{name}.csv", columns[kind], thin(*pair, max_points=MAX_CSV_POINTS))


def write_curve(path: Path, header: tuple[str, str], pair: Pair) -> None:
    """Two columns of numbers that read back to the same bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(zip(*(values.tolist() for values in pair), strict=True))


if __name__ == "__main__":
    run_stage("plot", plot, __doc__)
