"""The figures of a run that show its classes, for `plot.detector`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from osr.metrics.class_tables import full_name
from osr.plots.classes import MAX_CLASSES, class_bars, class_scores, lines_height
from osr.plots.confusion import confusion
from osr.plots.style import COLUMN_WIDTH, canvas
from osr.splits.split import HELD_OUT
from pipeline.report.run_files import RunFiles

MAX_BARS = 20
KNOWN_BARS = {"accuracy": "class predicted right", "acceptance": "accepted", "recall": "accepted and right"}
ESTIMATED_BARS = {"auroc": "AUROC when left out", "accepted": "accepted when left out (error)"}
UNKNOWN_BARS = {"auroc": "AUROC against all knowns", "accepted": "accepted as known (error)"}


def class_figures(run: RunFiles) -> Iterator[tuple[str, Figure]]:
    """Decisions by class, bars per known and per unknown class, and the scores of every class."""
    yield "confusion", _confusion(run)
    known = sorted(run.known_classes, key=lambda row: row["recall"])
    yield "classes_known", _bars(run, known, KNOWN_BARS, group="known")
    if run.has_unknowns:
        yield "classes_unknown", _bars(run, run.unknown_classes, UNKNOWN_BARS, group="unknown")
    elif run.estimated_classes:
        rows = run.estimated_classes
        yield "estimate_classes", _bars(run, rows, ESTIMATED_BARS, group="left-out")
    yield "class_scores", _scores(run)


def _confusion(run: RunFiles) -> Figure:
    """Known classes and unknown, at the threshold of `plot.detector`."""
    matrix = np.array(run.confusions[run.detector])
    figure = canvas(COLUMN_WIDTH, 3.4)
    axes = figure.subplots()
    confusion(axes, matrix, names=run.split.known_names)
    axes.set_title(run.detector)
    return figure


def _scores(run: RunFiles) -> Figure:
    """The scores of every class; of many classes the first knowns and the hardest unknowns."""
    labels, (score, threshold) = run.outputs.labels, run.scores_and_threshold(run.detector)
    codes = {name: code for code, name in enumerate(run.unknowns.names)}
    half = MAX_CLASSES // 2
    knowns, unknowns = run.known_classes[:half], run.unknown_classes[:half]
    vectors = [score[labels == code] for code in range(len(knowns))]
    vectors += [
        score[labels < 0][run.unknowns.classes == codes[row["source"], row["name"]]] for row in unknowns
    ]
    figure = canvas(COLUMN_WIDTH, lines_height(len(vectors)))
    class_scores(
        figure.subplots(),
        vectors,
        names=[_name(row) for row in (*knowns, *unknowns)],
        num_known=len(knowns),
        threshold=threshold,
        detector=run.detector,
    )
    return figure


def _bars(
    run: RunFiles, rows: Sequence[Mapping[str, Any]], quantities: Mapping[str, str], *, group: str
) -> Figure:
    """Shares of some classes, the worst first; of many classes the worst alone, which the title says."""
    shown = rows[:MAX_BARS]
    shares = {
        label: np.array([np.nan if row[key] is None else row[key] for row in shown], dtype=np.float64)
        for key, label in quantities.items()
    }
    figure = canvas(COLUMN_WIDTH, lines_height(1.6 * len(shown)))
    axes = figure.subplots()
    kind = "AUROC, share of images" if "auroc" in quantities else "share of images"
    if group == "left-out":
        kind = f"estimate: {kind}"
    names = [_name(row) for row in shown]
    class_bars(axes, shares, names=names, xlabel=f"{kind} ({run.detector})")
    every = f"{len(rows)} {group} classes"
    axes.set_title(f"{len(shown)} worst of {every}" if len(shown) < len(rows) else f"{every}, worst first")
    return figure


def _name(row: Mapping[str, Any]) -> str:
    return row["name"] if "fold" in row else full_name(row.get("source", HELD_OUT), row["name"])
