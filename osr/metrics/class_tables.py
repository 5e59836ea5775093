"""Results by class and by unknown set, for every detector, and their worst classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.metrics.groups import Groups, groups_of
from osr.metrics.intervals import by_metric, metrics_with_ends, share_with_ends
from osr.metrics.metric_ends import ACCURACY
from osr.metrics.per_class import KnownClass, UnknownClass, Unknowns, known_classes, unknown_classes
from osr.metrics.settings import EvaluateSettings
from osr.outputs import IntArray, Outputs
from osr.splits.split import HELD_OUT, Split

Scores = NDArray[np.float64]
Theta = float | NDArray[Any]  # one threshold, or (N,), that of each image
Tables = tuple[list[KnownClass], list[UnknownClass]]


def unknowns_of(split: Split, outputs: Outputs) -> Unknowns:
    """Class and unknown set of the unknown images among the test outputs, in their order."""
    numbers = np.array(split.unknown, dtype=np.int64)
    order = np.argsort(numbers)
    targets = split.targets[outputs.index[outputs.labels < 0]]
    names = tuple(source_and_name(split, number) for number in split.unknown)
    return Unknowns(order[np.searchsorted(numbers[order], targets)], names)


def source_and_name(split: Split, number: int) -> tuple[str, str]:
    """The unknown set that a class id belongs to, and the name of the class without it."""
    source = split.source_of(number)
    return source, split.class_names[number].removeprefix(f"{source}/")


def full_name(source: str, name: str) -> str:
    """A class for people: `beetle (cifar100)`; held-out and known classes have no set beside their name."""
    return name if source == HELD_OUT else f"{name} ({source})"


def class_tables(
    outputs: Outputs,
    scores: Mapping[str, Scores],
    *,
    confusions: Mapping[str, NDArray[np.int64]],
    thresholds: Mapping[str, Theta],
    split: Split,
    confidence: float,
) -> dict[str, Tables]:
    """The tables of every detector; intervals of shares of whole groups where the split has groups."""
    known, unknowns = outputs.labels >= 0, unknowns_of(split, outputs)
    groups = groups_of(split, outputs)
    tables: dict[str, Tables] = {}
    for detector, score in scores.items():
        tables[detector] = (
            _with_ends(
                known_classes(
                    confusions[detector],
                    labels=outputs.labels[known],
                    predictions=outputs.predictions[known],
                    names=split.known_names,
                ),
                (score <= thresholds[detector])[known],
                outputs.labels[known],
                None if groups is None else groups[known],
                confidence,
            ),
            []
            if known.all()
            else unknown_classes(
                np.broadcast_to(thresholds[detector], score.shape)[~known],
                score[known],
                score[~known],
                unknowns=unknowns,
                predictions=outputs.predictions[~known],
                known_names=split.known_names,
            ),
        )
    return tables


def _with_ends(
    rows: list[KnownClass],
    accepted: NDArray[np.bool_],
    labels: IntArray,
    groups: IntArray | None,
    confidence: float,
) -> list[KnownClass]:
    """The rows with the interval of what is accepted of each class that has an image."""
    found = []
    for code, row in enumerate(rows):
        chosen = labels == code
        if chosen.any():
            own = None if groups is None else groups[chosen]
            _, low, high = share_with_ends(accepted[chosen], confidence=confidence, groups=own)
            row = replace(row, acceptance_low=low, acceptance_high=high)
        found.append(row)
    return found


def worst_classes(tables: Mapping[str, Tables]) -> dict[str, dict[str, float]]:
    """The worst class of each detector as numbers: metric -> detector -> value; of U where there is any."""
    known = {
        "worst_known_recall": {name: min(row.recall for row in rows) for name, (rows, _) in tables.items()},
        "worst_known_acceptance": {
            name: min(row.acceptance for row in rows) for name, (rows, _) in tables.items()
        },
    }
    if not all(rows for _, rows in tables.values()):
        return known
    return {
        **known,
        "worst_unknown_auroc": {name: rows[0].auroc for name, (_, rows) in tables.items()},
        "worst_unknown_rejection": {
            name: 1 - max(row.accepted for row in rows) for name, (_, rows) in tables.items()
        },
    }


def source_metrics(
    outputs: Outputs,
    scores: Mapping[str, Scores],
    *,
    thresholds: Mapping[str, Theta],
    split: Split,
    settings: EvaluateSettings,
) -> dict[str, dict[str, dict[str, float]]]:
    """The headline metrics, with intervals, against each unknown set alone: set -> metric -> detector.

    What the stage reports outside this table pools the sets. Empty where there is a single one.
    """
    known, unknowns = outputs.labels >= 0, unknowns_of(split, outputs)
    if len(unknowns.sources) < 2:
        return {}
    correct, groups = outputs.correct[known], groups_of(split, outputs)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for source in unknowns.sources:
        chosen, metrics = unknowns.of_source(source), {}
        tested = None if groups is None else Groups(groups[known], groups[~known][chosen])
        for detector, score in scores.items():
            unknown = score[~known][chosen]
            theta = np.broadcast_to(thresholds[detector], score.shape)[~known][chosen]
            numbers = metrics_with_ends(score[known], correct, unknown, settings, groups=tested)
            metrics[detector] = {
                **{name: value for name, value in numbers.items() if not name.startswith(ACCURACY)},
                "unknown_rejection": float(np.mean(unknown > theta)),
            }
        found[source] = by_metric(metrics)
    return found
