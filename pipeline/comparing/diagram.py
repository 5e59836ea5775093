"""The figure of `osr compare --diagram`: mean ranks of methods over runs, with critical difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from osr.errors import InputError
from osr.metrics.multiple_comparisons import FloatArray, critical_difference, friedman_test
from osr.plots import critical_difference as figures
from osr.plots.style import PAGE_WIDTH, canvas, save, styled
from pipeline.comparing.grouping import (
    Method,
    Repeat,
    by_task,
    check_metrics,
    check_test_sets,
    differing,
    runs_of,
)
from pipeline.comparing.summary import lower_is_better, numbers_of
from pipeline.comparing.tables import short_keys
from pipeline.tracking.results import Result

FRAME, ROW = 1.1, 0.16  # inches of height: rulers and bars, and a method on either side
DPI = 300


class Ranked(NamedTuple):
    """Mean ranks of methods, 1 is best.

    Args:
        metric: that ranks them.
        ranks: method -> mean rank.
        num_runs: in which they were ranked.
        p_value: of Friedman's test that all rank alike.
        critical_difference: methods whose mean ranks lie less apart are not told apart (Nemenyi).
    """

    metric: str
    ranks: dict[str, float]
    num_runs: int
    p_value: float
    critical_difference: float


def write_diagram(results: Sequence[Result], metric: str, path: Path, *, significance: float) -> None:
    """Draw the methods that every task has, ranked in each run that has a number for all of them.

    Args:
        results: executions of the pipeline, in any order.
        metric: its name without the detector.
        path: of a PNG, PDF or SVG.
        significance: chance of a false alarm among all pairs, in 0..1 without the ends.

    Raises:
        InputError: fewer than 2 such methods or runs, a metric that none has, or another ending.
    """
    draw(ranked(results, metric, significance=significance), path)


def ranked(results: Sequence[Result], metric: str, *, significance: float) -> Ranked:
    """The methods that every task has, ranked in each run that has a number for all of them.

    Args:
        results: executions of the pipeline, in any order.
        metric: its name without the detector.
        significance: see `write_diagram`.

    Raises:
        InputError: fewer than 2 such methods or runs, or a metric that none has.
    """
    check_metrics(results, [metric])
    methods, values = _complete(results, metric)
    if len(methods) < 2 or len(values) < 2:
        raise InputError(
            f"--diagram needs at least 2 methods and 2 runs with {metric} of all of them, not "
            f"{len(methods)} and {len(values)}; --where leaves other runs out."
        )
    test = friedman_test(-values if lower_is_better(metric) else values)
    length = critical_difference(len(methods), len(values), significance=significance)
    ranks = dict(zip(_names(methods), test.ranks.tolist(), strict=True))
    return Ranked(metric, ranks, len(values), test.p_value, length)


def draw(found: Ranked, path: Path) -> None:
    """The figure of `ranked`, a PNG, PDF or SVG."""
    with styled():
        figure = canvas(PAGE_WIDTH, FRAME + ROW * math.ceil(len(found.ranks) / 2))
        axes = figure.subplots()
        figures.critical_difference(axes, found.ranks, critical_difference=found.critical_difference)
        told = f"mean rank in {found.num_runs} runs (Friedman's test: p = {found.p_value:.2g})"
        axes.set_title(f"{found.metric}: {told}")
        save(figure, path, DPI)


def _complete(results: Sequence[Result], metric: str) -> tuple[list[Method], FloatArray]:
    """The methods that every task has, and their values (runs, methods) where none is missing."""
    tasks: list[Mapping[Method, Mapping[Repeat, float]]] = []
    for task, members in sorted(by_task(results).items()):
        check_test_sets(task, members)
        runs, _ = runs_of(members, [metric], differing(members))
        tasks.append(
            {method: numbers_of(of_method, metric, method.detector) for method, of_method in runs.items()}
        )
    methods = [method for method in tasks[0] if all(method in task for task in tasks)]
    rows = [
        [task[method].get(repeat, math.nan) for method in methods]
        for task in tasks
        for repeat in sorted({repeat for method in methods for repeat in task[method]})
    ]
    values = np.array(rows).reshape(len(rows), len(methods))
    return methods, values[np.isfinite(values).all(axis=1)]


def _names(methods: Sequence[Method]) -> list[str]:
    """Detector and settings of each method."""
    keys = sorted({key for method in methods for key, _ in method.settings})
    short = dict(zip(keys, short_keys(keys), strict=True))
    return [
        " ".join([method.detector or "all", *(f"{short[key]}={value}" for key, value in method.settings)])
        for method in methods
    ]
