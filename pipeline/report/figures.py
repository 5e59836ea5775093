"""The figures of a run: what `osr.plots` draws, from the files of the earlier stages, under fixed names."""

from __future__ import annotations

import csv
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from osr.calibration.reliability import reliability as reliability_table
from osr.metrics.bootstrap import oscr_band
from osr.plots.curves import oscr, precision_recall, risk_coverage, roc
from osr.plots.embedding import embed, embed_umap, embedding, fitting_perplexity, has_umap
from osr.plots.gallery import gallery
from osr.plots.reliability import reliability
from osr.plots.scores import score_histogram
from osr.plots.shifts import shifts
from osr.plots.style import COLUMN_WIDTH, PAGE_WIDTH, canvas, save, styled
from osr.plots.training import training_curves
from osr.progress import Steps, announce, counted
from pipeline.report import leaderboard
from pipeline.report.class_figures import class_figures
from pipeline.report.galleries import accepted_unknowns, rejected_knowns, tiles
from pipeline.report.run_files import RunFiles
from pipeline.workspace.stages import FIGURES, HISTORY, VECTOR
from pipeline.workspace.swap import new

logger = logging.getLogger("osr")

Array = NDArray[Any]
Pair = tuple[Array, Array]
Points = Mapping[str, Mapping[str, Pair]]
NamedFigure = tuple[str, Figure]
Group = Callable[["RunFiles", Points], Iterator[NamedFigure]]

TITLE, UNIT = "figures (t-SNE takes longest)", "kinds"
PR_SET_PDEATHSIG = 1  # of Linux's prctl
BAND_POINTS = 200
MAX_CURVES = 6  # in one plane, besides that of the detector that judges new images
CURVE_HEIGHT, LEGEND_LINE = 2.6, 0.13  # inches of the plane with its labels, and of a line of its legend


def draw_figures(run: RunFiles, points: Points) -> None:
    """Write every figure of the run, as PNG and, where asked for, as a vector file.

    Args:
        run: its files.
        points: detector -> oscr, roc, precision_recall, risk_coverage -> x and y.
    """
    if run.params.plot.umap == "auto" and not has_umap():
        logger.info("plot: no UMAP figure, because umap-learn is not installed; t-SNE shows the features")
    if not _may_fork():
        for group in counted(GROUPS, TITLE, UNIT):
            _draw(group, run, points)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(_num_cores(), context, initializer=end_with_parent) as pool:
        # Each reads the files for itself: of many images that takes less than to hand them over.
        drawing = [pool.submit(_draw, group, RunFiles(run.params), points) for group in GROUPS]
        announce(TITLE, len(drawing), UNIT)
        with Steps(TITLE, len(drawing), UNIT) as steps:
            for drawn in as_completed(drawing):
                drawn.result()
                steps.step()


def _draw(group: Group, run: RunFiles, points: Points) -> None:
    """One figure after the other, so that one at a time is in memory."""
    settings = run.params.plot
    with styled():
        for name, figure in group(run, points):
            save(figure, new(FIGURES / f"{name}.png"), settings.dpi)
            if settings.vector != "none":
                save(figure, new(VECTOR / f"{name}.{settings.vector}"), settings.dpi)


def end_with_parent() -> None:
    """Have Linux end this process as soon as the one that forked it is gone, and signals at once.

    Else it waits for ever, and what it still draws lands among the figures of the next run.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # what they do in the parent is said there
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _may_fork() -> bool:
    """Whether processes can share the drawing: no library has threads here, which a fork would break."""
    alone = threading.active_count() == 1 and "torch" not in sys.modules
    return sys.platform == "linux" and alone and _num_cores() > 1


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def _curves(run: RunFiles, points: Points) -> Iterator[NamedFigure]:
    """OSCR on both axes, risk-coverage, ROC, precision-recall; without unknown images risk-coverage alone."""
    yield "risk_coverage", _curve(run, points, "risk_coverage", "aurc", risk_coverage)
    if not run.has_unknowns:
        return
    prevalence = next(iter(run.metrics["prevalence"].values()))
    for suffix, log_x, band in (("", False, _band(run, log_x=False)), ("_log", True, _band(run, log_x=True))):
        draw = partial(oscr, log_x=log_x, band=band)
        yield f"oscr{suffix}", _curve(run, points, "oscr", "auoscr", draw)
    yield "roc", _curve(run, points, "roc", "auroc", roc)
    draw = partial(precision_recall, prevalence=prevalence)
    yield "precision_recall", _curve(run, points, "precision_recall", "aupr_unknown", draw)


def _band(run: RunFiles, *, log_x: bool) -> tuple[str, Array, Array, Array]:
    """The bootstrap band of OSCR of `plot.detector`, at points that are evenly spread on the axis."""
    known, score, settings = run.outputs.labels >= 0, run.scores[f"score_{run.detector}"], run.params.evaluate
    least = 1 / int((~known).sum())
    fpr = np.geomspace(least, 1, BAND_POINTS) if log_x else np.linspace(0, 1, BAND_POINTS)
    low, high = oscr_band(
        score[known],
        run.outputs.correct[known],
        score[~known],
        fpr=np.minimum(fpr, 1),
        replicates=settings.bootstrap_replicates,
        confidence=settings.confidence,
        seed=settings.seed,
        num_threads=2,
        groups=run.groups,
    )
    return run.detector, fpr, low, high


def _curve(run: RunFiles, points: Points, kind: str, metric: str, draw: Callable[..., None]) -> Figure:
    """The curves of the best detectors, and of the one that judges new images.

    The same detectors in every figure, so that each has one colour.
    """
    best = _best_first(run)[:MAX_CURVES]
    shown = [name for name in points if name in best or name == run.detector]
    areas = leaderboard.intervals(run.metrics, metric, shown)
    figure = canvas(COLUMN_WIDTH, CURVE_HEIGHT + LEGEND_LINE * (len(shown) + 2))
    axes = figure.subplots()
    curves = {name: points[name][kind] for name in shown}
    draw(axes, curves, areas=areas, confidence=run.params.evaluate.confidence)
    if len(shown) < len(points):
        axes.set_title(f"{len(shown)} of {len(points)} detectors")
    return figure


def _best_first(run: RunFiles) -> list[str]:
    """Detectors by AUROC, without unknown images by its estimate, without one by AURC."""
    if run.has_unknowns or run.has_estimate:
        return leaderboard.order(leaderboard.columns(run.metrics if run.has_unknowns else run.estimate))
    return sorted(run.metrics["aurc"], key=lambda name: (run.metrics["aurc"][name], name))


def _scores(run: RunFiles, _points: Points) -> Iterator[NamedFigure]:
    """One histogram per detector with its threshold."""
    known = run.outputs.labels >= 0
    for name in run.params.detectors.enabled:
        score, threshold = run.scores_and_threshold(name)
        is_single = run.thresholds[name].per_class is None
        figure = canvas(COLUMN_WIDTH, 2.8)
        score_histogram(
            figure.subplots(),
            score[known],
            unknown_scores=score[~known] if run.has_unknowns else None,
            threshold=threshold,
            name=name if is_single else f"{name} (above θ of its class)",
        )
        yield f"scores_{name}", figure


def _others(run: RunFiles, _points: Points) -> Iterator[NamedFigure]:
    """Those that stand alone."""
    yield "reliability", _reliability(run)
    yield "training", _training(run)
    if run.has_unknowns:
        yield "leaderboard", leaderboard.draw(leaderboard.columns(run.metrics))
    if any(row["severity"] for row in run.shifts):
        yield "shifts", _shifts(run)
    if not run.has_unknowns and run.has_estimate:
        yield "estimate_leaderboard", leaderboard.draw(leaderboard.columns(run.estimate), of="estimate of ")


def _shifts(run: RunFiles) -> Figure:
    """Accuracy and acceptance of corrupted known images, and of the unknown sets beside them."""
    clean = {"accuracy": run.metrics["closed_set"]["accuracy"]}
    clean["accepted"] = run.metrics["known_acceptance"][run.detector]
    curves: dict[str, dict[str, dict[int, float]]] = {"accuracy": {}, "accepted": {}}
    for row in run.shifts:
        if not row["severity"]:
            continue  # a known source has none
        for what, of_kind in curves.items():
            of_kind.setdefault(row["kind"], {0: clean[what]})[row["severity"]] = row[what][0]
    figure = canvas(PAGE_WIDTH, 3.2)
    left, right = figure.subplots(1, 2)
    shifts(
        (left, right),
        **curves,
        unknown=run.unknown_accepted if run.has_unknowns else {},
        detector=run.detector,
    )
    return figure


def _reliability(run: RunFiles) -> Figure:
    """Reliability of the known test images before and after calibration."""
    known = run.outputs.select(run.outputs.labels >= 0)
    after = run.calibration.calibration.apply(known.logits)
    tables = {
        name: reliability_table(logits, known.labels, temperature=1.0)
        for name, logits in (("before", known.logits), ("after", after))
    }
    figure = canvas(COLUMN_WIDTH, 3.4)
    columns = {name: vars(table) for name, table in tables.items()}
    reliability(figure.subplots(), columns, ece={name: table.ece() for name, table in tables.items()})
    return figure


def _training(run: RunFiles) -> Figure:
    """Loss and accuracy per epoch, the kept epoch marked; of a probe per penalty that was tried."""
    with HISTORY.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    history = {column: np.array([float(row[column]) for row in rows]) for column in rows[0]}
    figure = canvas(PAGE_WIDTH, 2.8)
    left, right = figure.subplots(1, 2)
    best = int(run.trained["best"]["epoch"])
    step = "penalty" if run.params.train.regime == "probe" else "epoch"
    training_curves((left, right), history, best_epoch=best, step=step)
    return figure


def _embeddings(run: RunFiles, _points: Points) -> Iterator[NamedFigure]:
    """Test features by t-SNE and UMAP; a random subset when there are more than `plot.tsne_images`."""
    outputs, settings, seed = run.outputs, run.params.plot, run.params.evaluate.seed
    rows = np.arange(len(outputs))
    title = f"{len(outputs)} test images"
    if len(outputs) > settings.tsne_images:
        generator = np.random.default_rng(seed)
        rows = np.sort(generator.choice(rows, settings.tsne_images, replace=False))
        title = f"{len(rows)} of {title}"
    shown = outputs.select(rows)
    perplexity = fitting_perplexity(settings.tsne_perplexity, len(rows))
    if perplexity < settings.tsne_perplexity:
        title = f"{title}, perplexity {perplexity:.3g}"
    points = {"t-SNE": embed(shown.features, perplexity=perplexity, seed=seed)}
    if settings.umap is True or (settings.umap == "auto" and has_umap()):
        points["UMAP"] = embed_umap(shown.features, seed=seed)
    for method, places in points.items():
        figure = canvas(COLUMN_WIDTH, 3.6)
        names = run.split.known_names
        embedding(figure.subplots(), places, labels=shown.labels, names=names, title=f"{method} of {title}")
        yield method.lower().replace("-", ""), figure


def _classes(run: RunFiles, _points: Points) -> Iterator[NamedFigure]:
    yield from class_figures(run)


def _galleries(run: RunFiles, _points: Points) -> Iterator[NamedFigure]:
    """The images that `plot.detector` judges most wrongly; no figure where it judges all of them right."""
    count = run.params.plot.gallery_images
    for name, picks, title in (
        ("gallery_accepted_unknowns", accepted_unknowns(run, count), "Unknowns accepted, most known first"),
        ("gallery_rejected_knowns", rejected_knowns(run, count), "Knowns rejected, most unknown first"),
    ):
        if picks:
            yield name, gallery(tiles(picks), title=f"{title} ({run.detector})")


GROUPS: tuple[Group, ...] = (
    _embeddings,
    _curves,
    _classes,
    _scores,
    _galleries,
    _others,
)  # the longest first
