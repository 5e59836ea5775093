"""Which runs may be averaged: those of one task and one method that differ in trial and seeds alone.

A task is a data set with a protocol; nothing is averaged across tasks. A method is a detector with the
settings that differ within the task.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from osr.errors import InputError
from osr.params import flatten
from osr.settings.guesses import did_you_mean
from pipeline.comparing.conditions import given, override
from pipeline.tracking.described import SHORT_NAMES
from pipeline.tracking.results import COMMIT, DIGEST, SPLIT_DIGEST, Result

ENABLED = "detectors.enabled"
REPEATS = ("split.trial", "split.seed", "train.seed")
TASK = ("dataset.name", "split.protocol", "split.known", "split.unknown", "dataset.unknown_sources")
# These change how results are shown, or how sure they are, but not the results.
NOT_SETTINGS = ("plot.", "evaluate.", "extraction.", ENABLED, DIGEST, SPLIT_DIGEST, COMMIT)
ENTRY_POINT = ("preset", "overrides")  # parameters in MLproject, which `mlflow run` puts among the params
DETECTORS_OF = ("auroc/", "known_acceptance/")  # one of them is there for every detector

Repeat = tuple[str, ...]
Settings = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Method:
    """A detector with the settings that set it apart: (key, value) pairs in the order of the keys."""

    detector: str
    settings: Settings


Runs = Mapping[Method, Mapping[Repeat, Result]]


def only_detectors(results: Sequence[Result], names: Sequence[str]) -> list[Result]:
    """The results without the numbers of other detectors; one that has none of these is left out.

    Args:
        results: executions of the pipeline, in any order.
        names: of detectors; none at all means every one.

    Raises:
        InputError: no result has this detector.
    """
    if not names:
        return list(results)
    held = [set(_names(result.metrics)) for result in results]
    there = sorted(set().union(*held))
    for name in names:
        if name not in there:
            hint = did_you_mean(name, there) or f"; there are: {', '.join(there)}."
            raise InputError(f"--detector {name}: no run has this detector{hint}")
    return [
        replace(result, metrics=_without(result.metrics, of_result.difference(names)))
        for result, of_result in zip(results, held, strict=True)
        if not of_result.isdisjoint(names)
    ]


def _without(metrics: Mapping[str, float], others: set[str]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if key.rpartition("/")[2] not in others}


def by_task(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each data set and protocol; other explicit class lists are another protocol."""
    tasks: dict[str, list[Result]] = {}
    for result in results:
        tasks.setdefault(_task(*(result.params.get(key, "?") for key in TASK)), []).append(result)
    return tasks


def _task(dataset: str, protocol: str, known: str, unknown: str, sources: str) -> str:
    """The words for a task, other ones for another task."""
    how = f"protocol {protocol}"
    if protocol == "explicit":
        how = "all classes known" if known == "[]" else f"known classes {_classes(known)}"
        if unknown != "[]":
            of = _classes(unknown)
            how = f"unknown classes {of}" if known == "[]" else f"{how}, unknown ones {of}"
    return f"{dataset}, {how}" + ("" if sources in ("?", "[]") else f", {_of_sources(sources)}")


def _classes(text: str) -> str:
    """The names of a list as they are read; quoted where a comma in one would make another list."""
    try:
        names = [str(name) for name in ast.literal_eval(text)]
    except (ValueError, SyntaxError, TypeError):
        return text
    return text if any("," in name for name in names) else ", ".join(names)


def _of_sources(text: str) -> str:
    """Where unknown images come from, of each source its name and all that is said of it."""
    try:
        sources = [dict(source) for source in ast.literal_eval(text)]
    except (ValueError, SyntaxError, TypeError):
        return f"unknown images {text}"
    told = [f"{parts.pop('source', '?')} ({_kind(parts)})" for parts in map(given, sources)]
    return f"unknown images of {' and '.join(told)}"


def _kind(parts: dict[str, Any]) -> str:
    """`folder others` or `csv, csv.file=a.csv`: the kind of data with all that is said of it."""
    kind = parts.pop("name", "?")
    place = f"{kind} {parts.pop(kind)}" if isinstance(parts.get(kind), str) else kind
    return ", ".join([place, *(f"{key}={value}" for key, value in flatten(parts).items())])


def check_test_sets(task: str, results: Sequence[Result]) -> None:
    """Refuse results that name the same trial and split seed, but were tested on other images.

    Raises:
        InputError: there are such results; the sentence names two of them and what sets them apart.
    """
    first: dict[Repeat, Result] = {}
    for result in results:
        one = first.setdefault(repeat_of(result)[:2], result)
        if one.digest == result.digest:
            continue
        keys = sorted(
            key
            for key in one.params
            if key.startswith(("split.", "dataset.")) and one.params[key] != result.params.get(key)
        )
        hint = keys[0] if keys else COMMIT
        trial, seed = repeat_of(result)[:2]
        value = override(one.params[hint]) if hint in one.params else "…"
        raise InputError(
            f"{task}: {one.name} and {result.name} both say split.trial {trial} and split.seed {seed}, but "
            f"their test sets differ ({DIGEST} {one.digest or 'unknown'} and {result.digest or 'unknown'}): "
            f"choose one with --where {hint}={value}."
        )


def check_metrics(results: Sequence[Result], metrics: Sequence[str]) -> None:
    """Refuse a metric that no result has.

    Raises:
        InputError: there is one; the sentence names the nearest, or all, without detectors and interval ends.
    """
    known = {key for result in results for key in result.metrics} - set(SHORT_NAMES.values())
    detectors = set(_names(known))
    known |= {key.rpartition("/")[0] for key in known if key.rpartition("/")[2] in detectors}
    for metric in metrics:
        if metric not in known:
            ending = [key for key in sorted(known) if key.rpartition("/")[2] == metric.lower()]
            guess = ending or difflib.get_close_matches(metric.lower(), known, n=1)
            short = [key for key in sorted(known) if key.rpartition("/")[2] not in detectors]
            names = [key for key in short if not key.endswith(("_low", "_high"))]
            hint = f"did you mean {guess[0]!r}?" if guess else f"there are: {', '.join(names)}."
            raise InputError(f"--metrics {metric}: no run has this metric; {hint}")


def differing(results: Sequence[Result]) -> tuple[str, ...]:
    """The params that are not the same in all results, repeats and what is no setting aside."""
    keys = sorted({key for result in results for key in result.params})
    return tuple(
        key
        for key in keys
        if key not in (*REPEATS, *TASK, *ENTRY_POINT)
        and not key.startswith(NOT_SETTINGS)
        and len({result.params.get(key) for result in results}) > 1
    )


def repeat_of(result: Result) -> Repeat:
    """Trial and seeds."""
    return tuple(result.params.get(key, "?") for key in REPEATS)


def value_of(result: Result, metric: str, detector: str) -> float:
    """A metric of one run; NaN where the run does not have it."""
    return result.metrics.get(f"{metric}/{detector}", result.metrics.get(metric, math.nan))


def runs_of(
    results: Sequence[Result], metrics: Sequence[str], keys: Sequence[str]
) -> tuple[dict[Method, dict[Repeat, Result]], tuple[str, ...]]:
    """The newest run of each repeat of each method, and a note about older ones of the same."""
    runs: dict[Method, dict[Repeat, Result]] = {}
    older: set[str] = set()
    gap = 0.0
    for result in sorted(results, key=lambda result: -result.started):
        for detector in _detectors(result, metrics):
            of_method = runs.setdefault(Method(detector, _settings(result, detector, keys)), {})
            newest = of_method.setdefault(repeat_of(result), result)
            if newest is not result:
                older.add(result.name)
                pairs = [[value_of(run, m, detector) for run in (newest, result)] for m in metrics]
                gap = max([gap, *(abs(new - old) for new, old in pairs if not math.isnan(new - old))])
    if not older:
        return runs, ()
    number = f"{len(older)} runs" if len(older) > 1 else "1 run"
    agreement = f"their values differ by up to {gap:.2g}" if gap else "their values are the same"
    told = f"Left out for a newer run of the same settings and seeds: {number}; {agreement}"
    return runs, (f"{told} (evaluate.*, extraction.*, plot.* and detectors.enabled may be others).",)


def _detectors(result: Result, metrics: Sequence[str]) -> list[str]:
    """The detectors that the metrics are of; one without a name when all are of the whole run."""
    found = [
        name
        for name in _names(result.metrics)
        if any(f"{metric}/{name}" in result.metrics for metric in metrics)
    ]
    return found or [""]


def _names(metrics: Iterable[str]) -> list[str]:
    """The detectors that metrics are of, each once, in their order."""
    found = [key.partition("/")[2] for key in metrics if key.startswith(DETECTORS_OF)]
    return list(dict.fromkeys(found))


def _settings(result: Result, detector: str, keys: Sequence[str]) -> Settings:
    """What differs, but for the settings of other detectors."""
    parts = {key: key.split(".") for key in keys}
    return tuple(
        (key, result.params.get(key, "–"))
        for key in keys
        if parts[key][0] != "detectors" or len(parts[key]) == 2 or parts[key][1] == detector
    )
