"""The test images as one detector sees them, and every number that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osr.calibration.calibrators import Calibration
from osr.metrics.decisions import closed_set_metrics, confusion_matrix, count_verdicts, operating_point
from osr.metrics.groups import Groups
from osr.metrics.intervals import metrics_with_ends, share_with_ends
from osr.metrics.open_set import metrics_of, oracle_threshold
from osr.metrics.settings import EvaluateSettings
from osr.metrics.thresholds import Acceptance, Threshold, count_accepted
from osr.outputs import Outputs

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """The test images as one detector sees them.

    Args:
        outputs: of N test images, known and unknown.
        scores: (N,) float64, higher = more unknown.
        groups: of the images; None where each stands for itself.
    """

    outputs: Outputs
    scores: Scores
    groups: Groups | None = None

    @property
    def scored(self) -> tuple[Scores, NDArray[np.bool_], Scores]:
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


def detector_metrics(
    test: Judged, confusion: NDArray[np.int64], settings: EvaluateSettings
) -> dict[str, float]:
    """Threshold-free metrics, headline intervals, and the operating point of the stored threshold."""
    accepted = count_accepted(*test.scored)
    headline = metrics_with_ends(*test.scored, settings, groups=test.groups)
    return {
        **headline,
        **metrics_of(accepted),
        **operating_point(confusion),
        **oracle_point(test, accepted),
    }


def known_metrics(test: Judged, threshold: float, settings: EvaluateSettings) -> dict[str, float]:
    """What can be counted without unknown images, each with NAME_low and NAME_high.

    accuracy: known images whose class is predicted right.
    known_acceptance: known images that the threshold accepts.
    selective_accuracy: accepted ones whose class is predicted right, 1 - selective risk (Geifman and El-Yaniv
    2017); NaN where none is accepted.
    """
    accepted, correct = test.scores <= threshold, test.outputs.correct
    every = np.full(len(accepted), True)
    found: dict[str, float] = {}
    for name, hits, among in (
        ("accuracy", correct, every),
        ("known_acceptance", accepted, every),
        ("selective_accuracy", correct, accepted),
    ):
        values = (math.nan,) * 3
        if among.any():
            groups = None if test.groups is None else test.groups.known[among]
            values = share_with_ends(hits[among], confidence=settings.confidence, groups=groups)
        found |= {f"{name}{end}": value for end, value in zip(("", "_low", "_high"), values, strict=True)}
    return found


def threshold_check(test: Judged, fit: Threshold, settings: EvaluateSettings) -> dict[str, float]:
    """What a threshold was asked for, and the interval of what it accepts of the test knowns.

    asked_acceptance: the target, of the validation knowns or of new ones as the rule says; with asked_of, how
    many images, or groups of them, the threshold was made from. Neither where background images set it.
    """
    known = test.outputs.labels >= 0
    _, low, high = share_with_ends(
        test.scores[known] <= fit.value,
        confidence=settings.confidence,
        groups=None if test.groups is None else test.groups.known,
    )
    found = {"known_acceptance_low": low, "known_acceptance_high": high}
    if fit.rule == "background":
        return found
    made_from = fit.num_images if fit.num_groups is None else fit.num_groups
    return found | {"asked_acceptance": fit.target, "asked_of": made_from}


def oracle_point(test: Judged, accepted: Acceptance) -> dict[str, float]:
    """The operating point of the best threshold in hindsight: a bound, never a result."""
    best = operating_point(test.confusion(oracle_threshold(accepted)))
    return {f"oracle_{name}": value for name, value in best.items()}


def decision_metrics(outputs: Outputs, decisions: NDArray[np.int64]) -> dict[str, float]:
    """The operating point of verdicts (N,) in -1..K-1 that need no threshold."""
    unknown = outputs.num_classes
    truth, verdict = (np.where(classes < 0, unknown, classes) for classes in (outputs.labels, decisions))
    counts = count_verdicts(truth, verdict, num_classes=unknown)
    return {f"decision_{name}": value for name, value in operating_point(counts).items()}


def closed_set(outputs: Outputs, calibration: Calibration, *, bins: int) -> dict[str, float]:
    """How the known test images are classified, and how calibrated that is before and after calibration."""
    known = outputs.select(outputs.labels >= 0)
    calibrated = calibration.apply(known.logits)
    before, after = (
        closed_set_metrics(logits, known.labels, temperature=1.0, bins=bins)
        for logits in (known.logits, calibrated)
    )
    classification = {name: before[name] for name in ("accuracy", "balanced_accuracy", "macro_f1")}
    probabilities = {
        f"{name}_{when}": quality[name]
        for name in ("nll", "brier", "ece")
        for when, quality in (("before", before), ("after", after))
    }
    return {**classification, **probabilities}
