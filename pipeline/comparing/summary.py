"""From runs to a table: means over repeats with intervals, and which method is best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from osr.errors import InputError
from osr.metrics.comparison import paired_t_test
from osr.metrics.multiple_comparisons import holm
from osr.metrics.statistics import t_interval
from pipeline.comparing.grouping import (
    Method,
    Repeat,
    Runs,
    by_task,
    check_metrics,
    check_test_sets,
    differing,
    runs_of,
    value_of,
)
from pipeline.tracking.results import Result

LOWER_IS_BETTER = (
    "fpr_at_",
    "nll",
    "brier",
    "ece",
    "loss",
    "aurc",
    "augrc",
    "risk_at_",
    "expected_cost",
    "oracle_expected_cost",
)

SHARES = (
    "au",
    "fpr_at_",
    "tpr_at_",
    "accuracy",
    "balanced_accuracy",
    "ccr_at_",
    "unknown_rejection",
    "ece",
    "risk_at_",
)

PValue = Callable[[str, Method, Method], float | None]  # None: there is no test of the two


class Tests(NamedTuple):
    """How many methods were tested against the best, and how many could not be; those like it aside."""

    made: int
    lacking: int


@dataclass(frozen=True)
class Cell:
    """A metric of a method.

    Args:
        mean: over repeats.
        low: lower end of the t-interval over repeats; of one run that of its beta interval, NaN without.
        high: upper end.
        n: repeats in which the metric is a number.
        best: the best value, or tested against it and not significantly different; never where that is true
            of all that were tested.
    """

    mean: float
    low: float
    high: float
    n: int
    best: bool


@dataclass(frozen=True)
class Line:
    """A method with its cells by metric; None where no run has a number. `n` counts its repeats."""

    method: Method
    n: int
    cells: Mapping[str, Cell | None]


@dataclass(frozen=True)
class Section:
    """The table of one task.

    Args:
        task: data set and protocol.
        keys: the params that differ between its methods.
        metrics: the columns.
        lines: best first by the first metric.
        notes: what a reader must know, a sentence each.
        tests: of each metric, how many methods were tested against the best, and how many could not be.
    """

    task: str
    keys: tuple[str, ...]
    metrics: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    tests: Mapping[str, Tests] = field(default_factory=dict)


def sections(
    results: Sequence[Result],
    metrics: Sequence[str],
    *,
    confidence: float,
    significance: float,
    p_value: PValue | None = None,
) -> list[Section]:
    """One table per task.

    Args:
        results: executions of the pipeline, in any order.
        metrics: names without the detector (`auroc`), or whole ones (`closed_set/accuracy`).
        confidence: of the t-intervals, in 0..1 without the ends.
        significance: a method shares the mark of the best unless the adjusted p-value is below this.
        p_value: of "the two methods do not differ in this metric"; by default a paired t-test over the
            repeats that both have, and none when these are fewer than two.

    Raises:
        InputError: no result, a metric that none has, or different test sets under one trial.
    """
    if not results:
        raise InputError("MLflow holds no finished run with test metrics: `osr run` makes one.")
    check_metrics(results, metrics)
    tables = []
    for task, members in sorted(by_task(results).items()):
        check_test_sets(task, members)
        keys = differing(members)
        runs, notes = runs_of(members, metrics, keys)
        test = p_value or partial(_t_test_p_value, runs)
        columns = {metric: _column(runs, metric, confidence, significance, test) for metric in metrics}
        lines = [
            Line(method, len(of_method), {metric: columns[metric][0][method] for metric in metrics})
            for method, of_method in runs.items()
        ]
        lines.sort(key=partial(_order, metric=metrics[0]))
        tests = {metric: columns[metric][1] for metric in metrics}
        tables.append(Section(task, keys, tuple(metrics), tuple(lines), notes, tests))
    return tables


def lower_is_better(metric: str) -> bool:
    """Whether a small value of the metric is good."""
    return metric.rpartition("/")[2].startswith(LOWER_IS_BETTER) or metric.startswith(LOWER_IS_BETTER)


def leaves_its_range(metric: str, cell: Cell | None) -> bool:
    """Whether the interval of a metric in 0..1 has an end outside."""
    is_share = metric.startswith(SHARES) or metric.rpartition("/")[2].startswith(SHARES)
    return is_share and cell is not None and (cell.low < 0 or cell.high > 1)


def numbers_of(of_method: Mapping[Repeat, Result], metric: str, detector: str) -> dict[Repeat, float]:
    """The repeats in which the metric is a number."""
    values = {repeat: value_of(run, metric, detector) for repeat, run in of_method.items()}
    return {repeat: value for repeat, value in values.items() if math.isfinite(value)}


def _column(
    runs: Runs, metric: str, confidence: float, significance: float, test: PValue
) -> tuple[dict[Method, Cell | None], Tests]:
    """The cells of one metric, and how many methods were tested against the best."""
    series = {method: numbers_of(of_method, metric, method.detector) for method, of_method in runs.items()}
    numbers = {method: values for method, values in series.items() if values}
    marked, tests = _marked(metric, numbers, significance, test)
    cells = {
        method: _cell(runs[method], metric, method, values, confidence, method in marked) if values else None
        for method, values in series.items()
    }
    return cells, tests


def _cell(
    of_method: Mapping[Repeat, Result],
    metric: str,
    method: Method,
    values: Mapping[Repeat, float],
    confidence: float,
    best: bool,
) -> Cell:
    if len(values) > 1:
        interval = t_interval(list(values.values()), confidence=confidence)
        return Cell(interval.estimate, interval.low, interval.high, interval.n, best)
    ((repeat, value),) = values.items()
    low, high = (value_of(of_method[repeat], f"{metric}_{end}", method.detector) for end in ("low", "high"))
    return Cell(value, low, high, 1, best)


def _marked(
    metric: str, series: Mapping[Method, Mapping[Repeat, float]], significance: float, test: PValue
) -> tuple[set[Method], Tests]:
    """The best method and those that do not differ from it; none when that is all that were tested.

    Methods with the same values, such as the detectors of one network in `closed_set/accuracy`, count as one
    in the correction for many tests.
    """
    if not series:
        return set(), Tests(0, 0)
    alike: dict[tuple[tuple[Repeat, float], ...], list[Method]] = {}
    for method, values in series.items():
        alike.setdefault(tuple(sorted(values.items())), []).append(method)
    groups = list(alike.values())
    sign = -1 if lower_is_better(metric) else 1
    groups.sort(key=lambda group: -sign * _mean(series[group[0]]))
    best, *others = groups
    found = [(group, test(metric, best[0], group[0])) for group in others]
    tested = [(group, p) for group, p in found if p is not None]
    adjusted = holm([p for _, p in tested])
    equal = [group for (group, _), p in zip(tested, adjusted, strict=True) if p >= significance]
    tests = Tests(*(sum(len(group) for group, p in found if (p is None) == none) for none in (False, True)))
    marked = {method for group in (best, *equal) for method in group} if len(equal) < len(tested) else set()
    return marked, tests


def _t_test_p_value(runs: Runs, metric: str, one: Method, two: Method) -> float | None:
    first, second = (numbers_of(runs[method], metric, method.detector) for method in (one, two))
    common = sorted(first.keys() & second.keys())
    if len(common) < 2:
        return None
    pairs = [[series[repeat] for repeat in common] for series in (first, second)]
    return paired_t_test(*pairs, confidence=0.95).p_value


def _mean(values: Mapping[Repeat, float]) -> float:
    return sum(values.values()) / len(values)


def _order(line: Line, metric: str) -> float:
    cell = line.cells[metric]
    if cell is None:
        return math.inf
    return cell.mean if lower_is_better(metric) else -cell.mean
