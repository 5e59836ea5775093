"""Stage evaluate: score the test images with every detector; every number comes with what made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osr.calibrators import read_calibration
from osr.config import Params
from osr.decisions import closed_set_metrics, confusion_matrix, count_verdicts, operating_point
from osr.detectors.base import Detector
from osr.detectors.openmax import OpenMax
from osr.detectors.registry import load_detector
from osr.metrics import metrics_of, oracle_threshold
from osr.outputs import Outputs
from osr.splits import Split
from osr.thresholds import Acceptance, conformal_p_values, count_accepted
from pipeline.class_tables import class_tables, source_metrics
from pipeline.entry import Metrics, run_stage, write_json
from pipeline.execution import Row
from pipeline.inference import extract_part
from pipeline.intervals import by_metric, metrics_with_ends
from pipeline.stages import (
    CALIBRATOR,
    CONFUSION,
    DETECTORS,
    EVALUATION,
    SCORES,
    SPLIT,
    TEST_OUTPUTS,
    THRESHOLDS,
    VAL_SCORES,
    read_json,
)

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """The test images as one detector sees them.

    Args:
        outputs: of N test images, known and unknown.
        scores: (N,) float64, higher = more unknown.
    """

    outputs: Outputs
    scores: Scores

    @property
    def groups(self) -> tuple[Scores, NDArray[np.bool_], Scores]:
        """Known scores, whether their class is predicted right, unknown scores."""
        known = self.outputs.labels >= 0
        return self.scores[known], self.outputs.correct[known], self.scores[~known]

    def confusion(self, threshold: float) -> NDArray[np.int64]:
        """(K + 1, K + 1) counts at a threshold."""
        known = self.outputs.labels >= 0
        return confusion_matrix(
            threshold,
            self.scores[known],
            known_labels=self.outputs.labels[known],
            known_predictions=self.outputs.predictions[known],
            unknown_scores=self.scores[~known],
            unknown_predictions=self.outputs.predictions[~known],
            num_classes=self.outputs.num_classes,
        )


def evaluate(params: Params, _row: Row) -> Metrics:
    """Write test outputs, scores per image and confusion matrices; return every metric."""
    outputs = extract_part("test", params)
    outputs.save(TEST_OUTPUTS)
    thresholds = {name: float(fit["value"]) for name, fit in read_json(THRESHOLDS).items()}
    detectors: dict[str, Detector] = {
        name: load_detector(DETECTORS / f"{name}.safetensors") for name in params.detectors.enabled
    }
    judged = {name: Judged(outputs, detector.score(outputs)) for name, detector in detectors.items()}
    decisions = {
        name: detector.decisions(outputs)
        for name, detector in detectors.items()
        if isinstance(detector, OpenMax)
    }
    save_scores(outputs, judged, decisions)
    confusions: dict[str, NDArray[np.int64]] = {
        name: test.confusion(thresholds[name]) for name, test in judged.items()
    }
    write_json(CONFUSION, {name: matrix.tolist() for name, matrix in confusions.items()})
    per_detector: dict[str, dict[str, float]] = {
        name: detector_metrics(test, confusions[name], params) for name, test in judged.items()
    }
    metrics = by_metric(per_detector)
    # Accuracy does not look at the score, so every detector has drawn the same interval.
    accuracy = {
        name: metrics.pop(name)[params.detectors.enabled[0]]
        for name in ("accuracy", "accuracy_low", "accuracy_high")
    }
    verdicts = {name: decision_metrics(outputs, classes) for name, classes in decisions.items()}
    decided = by_metric(verdicts) if verdicts else {}
    split = Split.load(SPLIT)
    scores: dict[str, Scores] = {name: test.scores for name, test in judged.items()}
    by_class = class_tables(outputs, scores, confusions=confusions, thresholds=thresholds, split=split)
    by_source = source_metrics(outputs, scores, thresholds=thresholds, split=split, settings=params.evaluate)
    return {
        **metrics,
        **decided,
        "closed_set": {**accuracy, **closed_set(outputs, params)},
        "per_class": by_class,
        **({"sources": by_source} if by_source else {}),
    }


def save_scores(
    outputs: Outputs, judged: Mapping[str, Judged], decisions: Mapping[str, NDArray[np.int64]]
) -> None:
    """Write what each detector says of every test image."""
    EVALUATION.mkdir(parents=True, exist_ok=True)
    np.savez(
        SCORES,
        allow_pickle=False,
        index=outputs.index,
        label=outputs.labels,
        prediction=outputs.predictions,
        **{f"score_{name}": test.scores for name, test in judged.items()},
        **p_values(judged),
        **{f"decision_{name}": classes for name, classes in decisions.items()},
    )


def decision_metrics(outputs: Outputs, decisions: NDArray[np.int64]) -> dict[str, float]:
    """The operating point of verdicts (N,) in -1..K-1 that need no threshold."""
    unknown = outputs.num_classes
    truth, verdict = (np.where(classes < 0, unknown, classes) for classes in (outputs.labels, decisions))
    counts = count_verdicts(truth, verdict, num_classes=unknown)
    return {f"decision_{name}": value for name, value in operating_point(counts).items()}


def p_values(judged: Mapping[str, Judged]) -> dict[str, Scores]:
    """p_value_<detector>: (N,) float64, conformal among the stored scores of the validation knowns."""
    with np.load(VAL_SCORES, allow_pickle=False) as stored:
        return {
            f"p_value_{name}": conformal_p_values(stored[name], test.scores) for name, test in judged.items()
        }


def detector_metrics(test: Judged, confusion: NDArray[np.int64], params: Params) -> dict[str, float]:
    """Threshold-free metrics, headline intervals, and the operating point of the stored threshold."""
    accepted = count_accepted(*test.groups)
    headline = metrics_with_ends(*test.groups, params.evaluate)
    return {
        **headline,
        **metrics_of(accepted),
        **operating_point(confusion),
        **oracle_point(test, accepted),
    }


def oracle_point(test: Judged, accepted: Acceptance) -> dict[str, float]:
    """The operating point of the best threshold in hindsight: a bound, never a result."""
    best = operating_point(test.confusion(oracle_threshold(accepted)))
    return {f"oracle_{name}": value for name, value in best.items()}


def closed_set(outputs: Outputs, params: Params) -> dict[str, float]:
    """How the known test images are classified, and how calibrated that is before and after calibration."""
    known = outputs.select(outputs.labels >= 0)
    calibrated = read_calibration(read_json(CALIBRATOR)).apply(known.logits)
    before, after = (
        closed_set_metrics(logits, known.labels, temperature=1.0, bins=params.calibrate.ece_bins)
        for logits in (known.logits, calibrated)
    )
    classification = {name: before[name] for name in ("accuracy", "balanced_accuracy", "macro_f1")}
    probabilities = {
        f"{name}_{when}": quality[name]
        for name in ("nll", "brier", "ece")
        for when, quality in (("before", before), ("after", after))
    }
    return {**classification, **probabilities}


if __name__ == "__main__":
    run_stage("evaluate", evaluate, __doc__)
