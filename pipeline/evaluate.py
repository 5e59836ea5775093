"""Stage evaluate: score the test images with every detector; every number comes with what made it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from osr.calibration.files import StoredCalibration, load_calibration
from osr.metrics.class_tables import Tables, class_tables, source_metrics, worst_classes
from osr.metrics.groups import Groups, groups_of
from osr.metrics.intervals import by_metric, drawn_units
from osr.metrics.judged import (
    Judged,
    closed_set,
    cost_metrics,
    decision_metrics,
    detector_metrics,
    known_metrics,
    operational_metrics,
    threshold_check,
)
from osr.metrics.shifts import auroc, shift_metrics
from osr.metrics.threshold_files import StoredThresholds, load_thresholds
from osr.metrics.thresholds import conformal_p_values
from osr.outputs import Outputs
from osr.params import Params
from osr.progress import counted
from osr.splits.split import Split
from osr.stored.arrays import read_arrays, write_arrays
from osr.stored.files import damaged, write_json
from osr.stored.origin import Origin
from pipeline.entry import Metrics, run_stage
from pipeline.estimate import estimate
from pipeline.inference import extract_part, load_detectors, shifted_outputs
from pipeline.tracking.stage_run import Row
from pipeline.workspace.own_files import check_deps
from pipeline.workspace.stages import (
    BACKGROUND_OUTPUTS,
    CALIBRATOR,
    CONFUSION,
    KNOWN_SOURCES,
    PER_CLASS,
    PER_CLASS_TABLE,
    SCORES,
    SPLIT,
    TEST_OUTPUTS,
    THRESHOLDS,
    VAL_OUTPUTS,
    VAL_SCORES,
)
from pipeline.workspace.stamps import check
from pipeline.workspace.swap import new

if TYPE_CHECKING:
    from osr.detectors.base import Detector

Scores = NDArray[np.float64]


def evaluate(params: Params, _row: Row) -> Metrics:
    """Write test outputs, scores per image and confusion matrices; return every metric."""
    check_deps("evaluate", params.own_detectors)
    outputs = extract_part("test", params, new(TEST_OUTPUTS))
    limits, stored = load_thresholds(THRESHOLDS), load_calibration(CALIBRATOR)
    made_from = origin_of(outputs, limits, stored)
    thresholds = {name: fit.at(outputs.predictions) for name, fit in limits.of.items()}
    detectors = load_detectors(params.detectors.enabled, limits, allow_code=params.own_detectors)
    split = Split.load(SPLIT)
    groups = Groups.of(groups_of(split, outputs), outputs.labels)
    judged = {
        name: Judged(outputs, detector.score(outputs), groups)
        for name, detector in counted(detectors.items(), "score test images", "detectors")
    }
    decisions = own_decisions(detectors, outputs)
    held_out = validation_scores(judged, made_from)
    save_scores(judged, decisions, held_out, split, made_from)
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
        for name, test in counted(judged.items(), "metrics and intervals", "detectors")
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
    tables = class_tables(
        outputs,
        scores,
        confusions=confusions,
        thresholds=thresholds,
        split=split,
        confidence=params.evaluate.confidence,
    )
    write_class_tables(tables, made_from)
    return {
        **metrics,
        **decided,
        "closed_set": {**accuracy, **closed_set(outputs, stored.fit.calibration)},
        "per_class": worst_classes(tables),
        "intervals": drawn_units(outputs.labels, groups),
        **sections(judged, detectors, held_out, limits, split, params, made_from),
    }


def sections(
    judged: Mapping[str, Judged],
    detectors: Mapping[str, Detector],
    held_out: Mapping[str, Scores],
    limits: StoredThresholds,
    split: Split,
    params: Params,
    made_from: Origin,
) -> Metrics:
    """The groups of metrics that not every run has: by unknown set, costs, shifts, an estimate and so on."""
    outputs, fit = next(iter(judged.values())).outputs, next(iter(limits.of.values()))
    thresholds = {name: limit.at(outputs.predictions) for name, limit in limits.of.items()}
    scores: dict[str, Scores] = {name: test.scores for name, test in judged.items()}
    correct = stored_outputs(VAL_OUTPUTS, outputs).correct
    found: Metrics = {
        "sources": source_metrics(
            outputs, scores, thresholds=thresholds, split=split, settings=params.evaluate
        ),
        "costs": cost_metrics(judged, thresholds, held_out, correct, params.evaluate),
        "shifts": shifts(judged, detectors, limits, split, params),
    }
    if not (outputs.labels < 0).any():
        found |= estimate(outputs, detectors, fit, split=split, params=params, made_from=made_from)
    elif fit.rule == "background":
        background = stored_outputs(BACKGROUND_OUTPUTS, outputs)
        surrogates = {name: detector.score(background) for name, detector in detectors.items()}
        found["operational"] = operational_metrics(judged, held_out, correct, surrogates)
    return {name: group for name, group in found.items() if group}


def shifts(
    judged: Mapping[str, Judged],
    detectors: Mapping[str, Detector],
    limits: StoredThresholds,
    split: Split,
    params: Params,
) -> Metrics:
    """Known images under each shift that the settings ask for, corruptions and known sources; {} without any.

    `full_spectrum` pools all of them with the known test images as they are.
    """
    if not (params.evaluate.shifts.corruptions or KNOWN_SOURCES.is_dir()):
        return {}
    pools = {name: [test.scored[0]] for name, test in judged.items()}
    unknown = {name: test.scored[2] for name, test in judged.items()}
    found: Metrics = {}
    for kind, name, outputs in shifted_outputs(params, params.evaluate):
        scores = {key: detector.score(outputs) for key, detector in detectors.items()}
        found.setdefault(kind, {})[name] = shift_metrics(
            outputs,
            scores,
            {key: limits.of[key].at(outputs.predictions) for key in scores},
            unknown,
            confidence=params.evaluate.confidence,
            groups=groups_of(split, outputs) if kind == "corruptions" else None,
        )
        for key, score in scores.items():
            pools[key].append(score)
    if len(next(iter(unknown.values()))):
        areas = {key: auroc(np.concatenate(pools[key]), unknown[key]) for key in pools}
        found["full_spectrum"] = {"auroc": areas}
    return found


def origin_of(outputs: Outputs, limits: StoredThresholds, stored: StoredCalibration) -> Origin:
    """What the test scores are made from.

    Raises:
        InputError: thresholds or calibration are of another network than the outputs.
    """
    for path, made_from in ((THRESHOLDS, limits.made_from), (CALIBRATOR, stored.made_from)):
        check(path, made_from, outputs.made_from)
    return Origin(
        split=outputs.made_from.split,
        weights=outputs.made_from.weights,
        calibration=stored.digest,
        thresholds=limits.digest,
    )


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
    held_out: Mapping[str, Scores],
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
        **{
            f"p_value_{name}": conformal_p_values(held_out[name], test.scores, groups=held_out.get("group"))
            for name, test in judged.items()
        },
        **{f"decision_{name}": classes for name, classes in decisions.items()},
    }
    write_arrays(new(SCORES), "test scores", {}, made_from, arrays)


def validation_scores(judged: Mapping[str, Judged], made_from: Origin) -> dict[str, Scores]:
    """The stored scores of the validation knowns, (N,) by detector, and their `group` where there are groups.

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
    return stored


def stored_outputs(path: Path, test: Outputs) -> Outputs:
    """The outputs that an earlier stage left.

    Raises:
        InputError: they are of another network than those of the test images.
    """
    found = Outputs.load(path)
    check(path, found.made_from, test.made_from)
    return found


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
