"""Stage evaluate: score the test images with every detector; every number comes with what made it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from osr.calibration.calibrators import read_calibration
from osr.metrics.class_tables import Tables, class_tables, source_metrics, worst_classes
from osr.metrics.groups import Groups, groups_of
from osr.metrics.intervals import by_metric, drawn_units
from osr.metrics.judged import Judged, closed_set, decision_metrics, detector_metrics, known_metrics
from osr.metrics.thresholds import conformal_p_values
from osr.outputs import Outputs
from osr.params import Params
from osr.splits.split import Split
from pipeline.entry import Metrics, run_stage
from pipeline.estimate import estimate
from pipeline.inference import extract_part, load_detectors
from pipeline.tracking.stage_run import Row
from pipeline.workspace.files import read_json, write_json
from pipeline.workspace.stages import (
    CALIBRATOR,
    CONFUSION,
    EVALUATION,
    PER_CLASS,
    PER_CLASS_TABLE,
    SCORES,
    SPLIT,
    TEST_OUTPUTS,
    THRESHOLDS,
    VAL_OUTPUTS,
    VAL_SCORES,
)

if TYPE_CHECKING:
    from osr.detectors.base import Detector

Scores = NDArray[np.float64]


def evaluate(params: Params, _row: Row) -> Metrics:
    """Write test outputs, scores per image and confusion matrices; return every metric."""
    outputs = extract_part("test", params)
    outputs.save(TEST_OUTPUTS)
    thresholds = {name: float(fit["value"]) for name, fit in read_json(THRESHOLDS).items()}
    detectors = load_detectors(params.detectors.enabled)
    split = Split.load(SPLIT)
    groups = Groups.of(groups_of(split, outputs), outputs.labels)
    judged = {name: Judged(outputs, detector.score(outputs), groups) for name, detector in detectors.items()}
    decisions = own_decisions(detectors, outputs)
    save_scores(judged, decisions, split)
    confusions: dict[str, NDArray[np.int64]] = {
        name: test.confusion(thresholds[name]) for name, test in judged.items()
    }
    write_json(CONFUSION, {name: matrix.tolist() for name, matrix in confusions.items()})
    has_unknowns = bool((outputs.labels < 0).any())
    per_detector: dict[str, dict[str, float]] = {
        name: detector_metrics(test, confusions[name], params.evaluate)
        if has_unknowns
        else known_metrics(test, thresholds[name], params.evaluate)
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
    calibration = read_calibration(read_json(CALIBRATOR))
    scores: dict[str, Scores] = {name: test.scores for name, test in judged.items()}
    tables = class_tables(outputs, scores, confusions=confusions, thresholds=thresholds, split=split)
    write_class_tables(tables)
    by_source = source_metrics(outputs, scores, thresholds=thresholds, split=split, settings=params.evaluate)
    return {
        **metrics,
        **decided,
        "closed_set": {**accuracy, **closed_set(outputs, calibration, bins=params.calibrate.ece_bins)},
        "per_class": worst_classes(tables),
        "intervals": drawn_units(outputs.labels, groups),
        **({"sources": by_source} if by_source else {}),
        **({} if has_unknowns else estimate(outputs, detectors, split, params.evaluate)),
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
    judged: Mapping[str, Judged], decisions: Mapping[str, NDArray[np.int64]], split: Split
) -> None:
    """Write what each detector says of every test image, and the image's group where there are groups."""
    outputs = next(iter(judged.values())).outputs
    groups = groups_of(split, outputs)
    EVALUATION.mkdir(parents=True, exist_ok=True)
    np.savez(
        SCORES,
        allow_pickle=False,
        index=outputs.index,
        label=outputs.labels,
        prediction=outputs.predictions,
        **{f"score_{name}": test.scores for name, test in judged.items()},
        **({} if groups is None else {"group": groups}),
        **p_values(judged, None if groups is None else groups_of(split, Outputs.load(VAL_OUTPUTS))),
        **{f"decision_{name}": classes for name, classes in decisions.items()},
    )


def p_values(judged: Mapping[str, Judged], val_groups: NDArray[np.int64] | None) -> dict[str, Scores]:
    """p_value_<detector>: (N,) float64, conformal among the stored scores of the validation knowns.

    Args:
        judged: the test images, per detector.
        val_groups: (n,) of the validation knowns; None where each stands for itself.
    """
    with np.load(VAL_SCORES, allow_pickle=False) as stored:
        return {
            f"p_value_{name}": conformal_p_values(stored[name], test.scores, groups=val_groups)
            for name, test in judged.items()
        }


def write_class_tables(tables: Mapping[str, Tables]) -> None:
    """The rows as JSON for the stages that follow and as one CSV for people."""
    rows = {
        group: [
            {"detector": detector, **asdict(row)} for detector in tables for row in tables[detector][position]
        ]
        for position, group in enumerate(("known", "unknown"))
    }
    write_json(PER_CLASS, rows)
    columns = dict.fromkeys(key for group in rows.values() for row in group for key in row)
    with PER_CLASS_TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["group", *columns], lineterminator="\n")
        writer.writeheader()
        for group, members in rows.items():
            writer.writerows({"group": group, **row} for row in members)


if __name__ == "__main__":
    run_stage("evaluate", evaluate, __doc__)
