"""Stage evaluate: score the test images with every detector; every number comes with what made it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from osr.calibration.files import load_calibration
from osr.metrics.class_tables import Tables, class_tables, source_metrics, worst_classes
from osr.metrics.groups import Groups, groups_of
from osr.metrics.intervals import by_metric, drawn_units
from osr.metrics.judged import (
    Judged,
    closed_set,
    decision_metrics,
    detector_metrics,
    known_metrics,
    threshold_check,
)
from osr.metrics.threshold_files import load_thresholds
from osr.metrics.thresholds import conformal_p_values
from osr.outputs import Outputs
from osr.params import Params
from osr.splits.split import Split
from osr.stored.arrays import read_arrays, write_arrays
from osr.stored.files import damaged, write_json
from osr.stored.origin import Origin
from pipeline.entry import Metrics, run_stage
from pipeline.estimate import estimate
from pipeline.inference import extract_part, load_detectors
from pipeline.tracking.stage_run import Row
from pipeline.workspace.stages import (
    CALIBRATOR,
    CONFUSION,
    PER_CLASS,
    PER_CLASS_TABLE,
    SCORES,
    SPLIT,
    TEST_OUTPUTS,
    THRESHOLDS,
    VAL_SCORES,
)
from pipeline.workspace.stamps import check
from pipeline.workspace.swap import new

if TYPE_CHECKING:
    from osr.detectors.base import Detector

Scores = NDArray[np.float64]


def evaluate(params: Params, _row: Row) -> Metrics:
    """Write test outputs, scores per image and confusion matrices; return every metric."""
    outputs = extract_part("test", params, new(TEST_OUTPUTS))
    limits, stored = load_thresholds(THRESHOLDS), load_calibration(CALIBRATOR)
    for path, made_from in ((THRESHOLDS, limits.made_from), (CALIBRATOR, stored.made_from)):
        check(path, made_from, outputs.made_from)
    made_from = Origin(
        split=outputs.made_from.split,
        weights=outputs.made_from.weights,
        calibration=stored.digest,
        thresholds=limits.digest,
    )
    thresholds = {name: fit.value for name, fit in limits.of.items()}
    detectors = load_detectors(params.detectors.enabled, limits)
    split = Split.load(SPLIT)
    groups = Groups.of(groups_of(split, outputs), outputs.labels)
    judged = {name: Judged(outputs, detector.score(outputs), groups) for name, detector in detectors.items()}
    decisions = own_decisions(detectors, outputs)
    save_scores(judged, decisions, split, made_from)
    confusions: dict[str, NDArray[np.int64]] = {
        name: test.confusion(thresholds[name]) for name, test in judged.items()
    }
    matrices = {name: matrix.tolist() for name, matrix in confusions.items()}
    write_json(new(CONFUSION), "confusion", matrices, made_from)
    has_unknowns = bool((outputs.labels < 0).any())
    per_detector: dict[str, dict[str, float]] = {
        name: (
            detector_metrics(test, confusions[name], params.evaluate)
            if has_unknowns
            else known_metrics(test, thresholds[name], params.evaluate)
        )
        | threshold_check(test, limits.of[name], params.evaluate)
        for name, test in judged.items()
    }
    metrics = by_metric(per_detector)
    # Accuracy does not look at the score, so every detector has drawn the same interval.
    accuracy = {
        name: metrics.pop(name)[params.detectors.enabled[0]]
        for name in ("accuracy", "accuracy_low", "accuracy_high")
    }
    verdicts = {name: decision_metrics(outputs, classes) for name, classes in decisions.items()}
    decided = by_metric(verdicts) if verdicts else {}
    scores: dict[str, Scores] = {name: test.scores for name, test in judged.items()}
    tables = class_tables(outputs, scores, confusions=confusions, thresholds=thresholds, split=split)
    write_class_tables(tables, made_from)
    by_source = source_metrics(outputs, scores, thresholds=thresholds, split=split, settings=params.evaluate)
    estimated = {}
    if not has_unknowns:
        fit = next(iter(limits.of.values()))
        estimated = estimate(outputs, detectors, fit, split=split, params=params, made_from=made_from)
    return {
        **metrics,
        **decided,
        "closed_set": {
            **accuracy,
            **closed_set(outputs, stored.fit.calibration, bins=params.calibrate.ece_bins),
        },
        "per_class": worst_classes(tables),
        "intervals": drawn_units(outputs.labels, groups),
        **({"sources": by_source} if by_source else {}),
        **estimated,
    }


def own_decisions(detectors: Mapping[str, Detector], outputs: Outputs) -> dict[str, NDArray[np.int64]]:
    """The verdicts (N,) of those detectors that decide without a threshold."""
    from osr.detectors.openmax import OpenMax

    return {
        name: detector.decisions(outputs)
        for name, detector in detectors.items()
        if isinstance(detector, OpenMax)
    }


def save_scores(
    judged: Mapping[str, Judged],
    decisions: Mapping[str, NDArray[np.int64]],
    split: Split,
    made_from: Origin,
) -> None:
    """Write what each detector says of every test image, and the image's group where there are groups."""
    outputs = next(iter(judged.values())).outputs
    groups = groups_of(split, outputs)
    arrays = {
        "index": outputs.index,
        "label": outputs.labels,
        "prediction": outputs.predictions,
        **{f"score_{name}": test.scores for name, test in judged.items()},
        **({} if groups is None else {"group": groups}),
        **p_values(judged, made_from),
        **{f"decision_{name}": classes for name, classes in decisions.items()},
    }
    write_arrays(new(SCORES), "test scores", {}, made_from, arrays)


def p_values(judged: Mapping[str, Judged], made_from: Origin) -> dict[str, Scores]:
    """p_value_<detector>: (N,) float64, conformal among the stored scores of the validation knowns.

    Args:
        judged: the test images, per detector.
        made_from: what the test scores are made from.

    Raises:
        InputError: the stored scores are of another run, or lack a detector.
    """
    header, stored = read_arrays(VAL_SCORES, "validation scores")
    check(VAL_SCORES, header.made_from, made_from.only("split", "weights", "thresholds"))
    if missing := judged.keys() - stored.keys():
        raise damaged(VAL_SCORES, f"it holds no {', '.join(sorted(missing))}")
    return {
        f"p_value_{name}": conformal_p_values(stored[name], test.scores, groups=stored.get("group"))
        for name, test in judged.items()
    }


def write_class_tables(tables: Mapping[str, Tables], made_from: Origin) -> None:
    """The rows as JSON for the stages that follow and as one CSV for people."""
    rows = {
        group: [
            {"detector": detector, **asdict(row)} for detector in tables for row in tables[detector][position]
        ]
        for position, group in enumerate(("known", "unknown"))
    }
    write_json(new(PER_CLASS), "class tables", rows, made_from)
    columns = dict.fromkeys(key for group in rows.values() for row in group for key in row)
    with new(PER_CLASS_TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["group", *columns], lineterminator="\n")
        writer.writeheader()
        for group, members in rows.items():
            writer.writerows({"group": group, **row} for row in members)


if __name__ == "__main__":
    run_stage("evaluate", evaluate, __doc__)
