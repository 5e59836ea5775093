"""Stage plot: figures and a report for people, curves for `dvc plots`. No network runs here."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from osr.metrics.open_set import curves
from osr.metrics.risk import Selection
from osr.metrics.thresholds import count_accepted, count_known
from osr.params import Params
from osr.plots.curves import thin
from pipeline.entry import Metrics, run_stage
from pipeline.report import leaderboard, other_thresholds
from pipeline.report.figures import draw_figures
from pipeline.report.judge import choose_judge, regret
from pipeline.report.outcome import outcome
from pipeline.report.page import write_report
from pipeline.report.run_files import RunFiles
from pipeline.tracking.stage_run import Row
from pipeline.workspace.stages import CURVES, FIGURES, JUDGE_TEXT, LEADERBOARD, REPORT, VECTOR
from pipeline.workspace.swap import new

if TYPE_CHECKING:
    from osr.estimation.choice import Choice

Array = NDArray[Any]
Pair = tuple[Array, Array]

MAX_CSV_POINTS = 1000
KNOWN_HEADLINE = ("known_acceptance", "selective_accuracy")
ESTIMATED_HEADLINE = ("auroc", "unknown_rejection")
NO_UNKNOWNS = "No unknown image was tested."
HEADLINE = ("auroc", "auoscr", "fpr_at_95tpr_known", "known_acceptance", "unknown_rejection")


def plot(params: Params, _row: Row) -> Metrics:
    """Draw every figure, write the curves and the report; return their number and the headline."""
    choice = choose_judge(params)
    run = RunFiles(params)
    names = params.detectors.enabled
    points: dict[str, dict[str, Pair]] = {name: detector_curves(run.scores, name) for name in names}
    for folder in (FIGURES, VECTOR):
        new(folder).mkdir(parents=True, exist_ok=True)
    draw_figures(run, points)
    write_curves(points if run.has_unknowns else {})
    write_tables(run)
    if choice is not None:
        write_choice(run, choice)
    write_report(run, new(REPORT))
    drawn = {"figures": len(list(new(FIGURES).glob("*.png"))), "headline": headline(run)}
    return drawn | ({} if choice is None else {"judge": numbers_of(choice)})


def headline(run: RunFiles) -> dict[str, float]:
    """The few numbers of `plot.detector` that two runs are compared by first; estimates say so."""
    names = HEADLINE if run.has_unknowns else KNOWN_HEADLINE
    numbers = {name: run.metrics[name][run.detector] for name in names}
    if run.estimated_classes:
        numbers |= {f"estimate_{name}": run.estimate[name][run.detector] for name in ESTIMATED_HEADLINE}
    return numbers | {name: run.metrics["closed_set"][name] for name in ("accuracy", "ece_after")}


def write_tables(run: RunFiles) -> None:
    """The leaderboard, or that of the estimates under their name, or a line that says why there is none.

    And what thresholds that accept more or fewer known images would reject.
    """
    folder = new(LEADERBOARD)
    folder.mkdir(parents=True, exist_ok=True)
    if run.has_unknowns:
        leaderboard.write_tables(leaderboard.columns(run.metrics), folder / "leaderboard")
    elif run.has_estimate:
        leaderboard.write_tables(leaderboard.columns(run.estimate), folder / "estimate")
    else:
        (folder / "none.txt").write_text(f"{NO_UNKNOWNS} {run.why_no_estimate}\n", encoding="utf-8")
    if table := other_thresholds.to_markdown(run):
        (folder / "thresholds.md").write_text(table, encoding="utf-8")


def write_choice(run: RunFiles, choice: Choice) -> None:
    """The choice in words, and against what the unknown test images show, where there are some."""
    lines = [run.choice]
    if run.has_unknowns:
        told = regret(choice.detector, run.metrics["auroc"])
        lines.append(f"Against the unknown test images {choice.detector} has {told}.")
    new(JUDGE_TEXT).write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def numbers_of(choice: Choice) -> Metrics:
    """What the MLflow row keeps of a choice: the ranking, by detector, and how sure it is."""
    return {
        "chosen": {choice.detector: 1.0},
        "sure": choice.sure,
        "alike": len(choice.alike),
        **{
            key: {entry.detector: getattr(entry, key) for entry in choice.ranking}
            for key in ("auroc", "low", "high")
        },
    }


def detector_curves(scores: Mapping[str, Array], name: str) -> dict[str, Pair]:
    """The OSCR, ROC, precision-recall and risk-coverage points of one detector; of knowns alone the last."""
    score, known = scores[f"score_{name}"], scores["label"] >= 0
    correct = (scores["prediction"] == scores["label"])[known]
    if known.all():
        return {"risk_coverage": Selection.of(count_known(score, correct)).curve()}
    counts = count_accepted(score[known], correct, score[~known])
    found = curves(counts)
    # ROC points fall from (1, 1); curves are drawn and written rising.
    return {
        "oscr": (found["oscr_fpr"], found["oscr_ccr"]),
        "roc": (found["roc_fpr"][::-1], found["roc_tpr"][::-1]),
        "precision_recall": (found["pr_unknown_recall"][::-1], found["pr_unknown_precision"][::-1]),
        "risk_coverage": Selection.of(counts).curve(),
    }


def write_curves(points: Mapping[str, Mapping[str, Pair]]) -> None:
    """One CSV per curve and detector, thinned without changing its look, or a line on why there is none."""
    columns = {"oscr": ("fpr", "ccr"), "roc": ("fpr", "tpr"), "precision_recall": ("recall", "precision")}
    for kind in columns:
        folder = new(CURVES / kind)
        folder.mkdir(parents=True, exist_ok=True)
        if not points:
            (folder / "none.txt").write_text(f"{NO_UNKNOWNS}\n", encoding="utf-8")
    for name, kinds in points.items():
        for kind, header in columns.items():
            path = new(CURVES / kind / f"{name}.csv")
            write_curve(path, header, thin(*kinds[kind], max_points=MAX_CSV_POINTS))


def write_curve(path: Path, header: tuple[str, str], pair: Pair) -> None:
    """Two columns of numbers that read back to the same bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(zip(*(values.tolist() for values in pair), strict=True))


if __name__ == "__main__":
    run_stage("plot", plot, __doc__)
    sys.stdout.write(outcome())
