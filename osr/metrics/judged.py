"""The test images as one detector sees them, and every number that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.calibration.calibrators import Calibration
from osr.metrics.class_tables import Theta
from osr.metrics.costs import cost_curve, expected_cost, least_cost_threshold, prevalence_of
from osr.metrics.decisions import closed_set_metrics, count_verdicts, operating_point
from osr.metrics.groups import Groups
from osr.metrics.intervals import by_metric, known_risks_with_ends, metrics_with_ends, share_with_ends
from osr.metrics.open_set import metrics_of, oracle_threshold
from osr.metrics.operational import open_set_accuracy, operational_threshold
from osr.metrics.settings import TEST, EvaluateSettings
from osr.metrics.thresholds import Acceptance, Threshold, checked_scores, count_accepted
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

    def confusion(self, threshold: Theta) -> NDArray[np.int64]:
        """(K + 1, K + 1) counts at a threshold, as `confusion_matrix` has them.

        Raises:
            InputError: a score is NaN.
        """
        unknown, labels = self.outputs.num_classes, self.outputs.labels
        accepted = checked_scores(self.scores, name="scores of test images") <= threshold
        truth, verdict = (
            np.where(chosen, classes, unknown)
            for chosen, classes in ((labels >= 0, labels), (accepted, self.outputs.predictions))
        )
        return count_verdicts(truth, verdict, num_classes=unknown)


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


def known_metrics(test: Judged, threshold: Theta, settings: EvaluateSettings) -> dict[str, float]:
    """What can be counted without unknown images, each with NAME_low and NAME_high.

    accuracy: known images whose class is predicted right.
    known_acceptance: known images that the threshold accepts.
    selective_accuracy: accepted ones whose class is predicted right, 1 - selective risk (Geifman and El-Yaniv
    2017); NaN where none is accepted.
    Those of `osr.metrics.risk`, in which what is wrong is misclassified.
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
    return found | known_risks_with_ends(test.scores, correct, settings, groups=test.groups)


def threshold_check(test: Judged, fit: Threshold, settings: EvaluateSettings) -> dict[str, float]:
    """What a threshold was asked for, and the intervals of what it does to the test images.

    asked_acceptance: the target, of the validation knowns or of new ones as the rule says; with asked_of, how
    many images, or groups of them, the threshold was made from. Neither where background images set it.
    """
    known, accepted = test.outputs.labels >= 0, test.scores <= fit.at(test.outputs.predictions)
    found: dict[str, float] = {}
    for name, hits, groups in (
        ("known_acceptance", accepted[known], None if test.groups is None else test.groups.known),
        ("unknown_rejection", ~accepted[~known], None if test.groups is None else test.groups.unknown),
    ):
        if len(hits):
            _, low, high = share_with_ends(hits, confidence=settings.confidence, groups=groups)
            found |= {f"{name}_low": low, f"{name}_high": high}
    if fit.rule == "background":
        return found
    made_from = fit.num_images if fit.num_groups is None else fit.num_groups
    return found | {"asked_acceptance": fit.target, "asked_of": made_from}


def cost_metrics(
    tests: Mapping[str, Judged],
    thresholds: Mapping[str, Theta],
    held_out: Mapping[str, Scores],
    held_out_correct: NDArray[np.bool_],
    settings: EvaluateSettings,
) -> dict[str, Any]:
    """Expected costs of an image, metric -> detector -> value, and what they were asked for.

    docs/metrics.md names them. Without unknown test images the threshold of least cost alone, and nothing
    where the share of unknown images is to be that of the test images.

    Args:
        tests: the test images, by detector.
        thresholds: of the run, by detector.
        held_out: scores of the validation knowns, (N,) by detector.
        held_out_correct: (N,), whether the class of each is predicted right.
        settings: the section `evaluate`.
    """
    known, _, unknown = next(iter(tests.values())).scored
    if settings.prevalence == TEST and not len(unknown):
        return {}
    prevalence, costs = prevalence_of(settings, len(known), len(unknown)), settings.costs
    found: dict[str, dict[str, float]] = {}
    for name, test in tests.items():
        least = least_cost_threshold(
            held_out[name],
            held_out_correct,
            costs,
            prevalence=prevalence,
            assumed_auroc=settings.assumed_auroc,
        )
        found[name] = {"cost_threshold": least.value, "assumed_expected_cost": least.cost}
        if len(unknown):
            found[name] |= _costs_of(test, thresholds[name], least.value, prevalence, settings)
    asked: dict[str, Any] = {"prevalence": prevalence, "assumed_auroc": settings.assumed_auroc}
    if len(unknown):
        wrong = 1 - float(np.mean(next(iter(tests.values())).scored[1]))
        accepting = (costs.misclassified_known * wrong, costs.accepted_unknown)
        for what, (of_known, of_unknown) in (
            ("accepting", accepting),
            ("rejecting", (costs.rejected_known, costs.rejected_unknown)),
        ):
            asked[f"expected_cost_{what}_all"] = (1 - prevalence) * of_known + prevalence * of_unknown
    return {**by_metric(found), **asked}


def _costs_of(
    test: Judged, threshold: Theta, least: float, prevalence: float, settings: EvaluateSettings
) -> dict[str, float]:
    """The costs of the test images at the threshold of the run, at that of least cost, and in hindsight."""
    found: dict[str, float] = {}
    for where, theta in (("", threshold), ("_at_cost_threshold", least)):
        accepted, known = test.scores <= theta, test.outputs.labels >= 0
        ends = expected_cost(
            accepted[known],
            test.outputs.correct[known],
            accepted[~known],
            settings.costs,
            prevalence=prevalence,
            confidence=settings.confidence,
            groups=test.groups,
        )
        names = (f"expected_cost{where}{end}" for end in ("", "_low", "_high"))
        found |= dict(zip(names, ends, strict=True))
    known_scores, _, unknown_scores = test.scored
    curve = cost_curve(count_accepted(*test.scored), settings.costs, prevalence)
    return found | {
        "known_acceptance_at_cost_threshold": float(np.mean(known_scores <= least)),
        "unknown_rejection_at_cost_threshold": float(np.mean(unknown_scores > least)),
        "oracle_expected_cost": float(curve.min()),
    }


def operational_metrics(
    tests: Mapping[str, Judged],
    held_out: Mapping[str, Scores],
    held_out_correct: NDArray[np.bool_],
    surrogates: Mapping[str, Scores],
) -> dict[str, Any]:
    """Operational open-set accuracy, metric -> detector -> value; see `osr.metrics.operational`.

    Args:
        tests: the test images, known and unknown, by detector.
        held_out: scores of the validation knowns, (N,) by detector.
        held_out_correct: (N,), whether the class of each is predicted right.
        surrogates: scores of images of no known class that were neither trained on nor are tested, (M,).
    """
    found: dict[str, dict[str, float]] = {}
    for name, test in tests.items():
        theta, accuracy = operational_threshold(held_out[name], held_out_correct, surrogates[name])
        found[name] = {
            "oosa": open_set_accuracy(theta, *test.scored),
            "oosa_threshold": theta,
            "validation_open_set_accuracy": accuracy,
        }
    return {**by_metric(found), "surrogate_images": len(next(iter(surrogates.values())))}


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


def closed_set(outputs: Outputs, calibration: Calibration) -> dict[str, float]:
    """How the known test images are classified, and how calibrated that is before and after calibration."""
    known = outputs.select(outputs.labels >= 0)
    calibrated = calibration.apply(known.logits)
    before, after = (
        closed_set_metrics(logits, known.labels, temperature=1.0) for logits in (known.logits, calibrated)
    )
    classification = {name: before[name] for name in ("accuracy", "balanced_accuracy", "macro_f1")}
    probabilities = {
        f"{name}_{when}": quality[name]
        for name in ("nll", "brier", "ece")
        for when, quality in (("before", before), ("after", after))
    }
    return {**classification, **probabilities}
