"""Numbers of decisions: known class or unknown at one threshold, and the known class alone.

Higher score = more unknown; accept as known when s <= theta. Known classes are 0..K-1, and K is unknown.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.calibration.probabilities import checked_classes, checked_labels, probability_quality
from osr.calibration.reliability import ECE_BINS, Reliability
from osr.errors import InputError
from osr.metrics.thresholds import checked_scores

Array = NDArray[Any]


def confusion_matrix(
    threshold: float,
    known_scores: ArrayLike,
    *,
    known_labels: ArrayLike,
    known_predictions: ArrayLike,
    unknown_scores: ArrayLike,
    unknown_predictions: ArrayLike,
    num_classes: int,
) -> NDArray[np.int64]:
    """(K + 1, K + 1) int64 counts at theta: rows are truth, columns the verdict, the last of both is unknown.

    Args:
        threshold: theta; not NaN.
        known_scores: (n_K,) real.
        known_labels: (n_K,) int in 0..K-1.
        known_predictions: (n_K,) int in 0..K-1, the predicted known class whatever the score says.
        unknown_scores: (n_U,) real; n_U may be 0.
        unknown_predictions: (n_U,) int in 0..K-1.
        num_classes: K.

    Raises:
        InputError: theta or a score is NaN, a class is outside its range, or lengths disagree.
    """
    if math.isnan(threshold):
        raise InputError("The threshold must be a number, not NaN.")
    known = checked_scores(known_scores, name="scores of known test images")
    unknown = np.asarray(unknown_scores)
    if unknown.size:
        unknown = checked_scores(unknown, name="scores of unknown test images")
    truth = np.append(
        checked_classes(known_labels, len(known), num_classes, name="known_labels"),
        np.full(len(unknown), num_classes),
    )
    classes = np.append(
        checked_classes(known_predictions, len(known), num_classes, name="known_predictions"),
        checked_classes(unknown_predictions, len(unknown), num_classes, name="unknown_predictions"),
    )
    verdict = np.where(np.append(known <= threshold, unknown <= threshold), classes, num_classes)
    return count_verdicts(truth, verdict, num_classes=num_classes)


def count_verdicts(
    truth: NDArray[np.integer[Any]], verdict: NDArray[np.integer[Any]], *, num_classes: int
) -> NDArray[np.int64]:
    """The matrix of `confusion_matrix` from (N,) true classes and (N,) verdicts, both in 0..K, K unknown."""
    size = num_classes + 1
    return np.bincount(truth * size + verdict, minlength=size * size).reshape(size, size)


def operating_point(confusion: NDArray[np.int64]) -> dict[str, float]:
    """Known acceptance, unknown rejection, K+1 accuracy macro-F1 of a `confusion_matrix`, all in 0..1.

    Without unknown images the first alone: the others would say nothing of what is rejected.
    """
    hits, truth, verdict = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    acceptance = {"known_acceptance": float(confusion[:-1, :-1].sum() / truth[:-1].sum())}
    if not truth[-1]:
        return acceptance
    return {
        **acceptance,
        "unknown_rejection": float(hits[-1] / truth[-1]),
        "kplus1_accuracy": float(hits.sum() / truth.sum()),
        "kplus1_macro_f1": _macro_f1(hits, truth, verdict),
    }


def closed_set_metrics(
    logits: Array, labels: ArrayLike, *, temperature: float, bins: int = ECE_BINS
) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro-F1, NLL (nats), Brier (0..2) and ECE of known images.

    Balanced accuracy averages over classes with images, macro-F1 over classes with images or predictions.

    Args:
        logits: (N, K) finite floats; probabilities are softmax(logits / temperature), in float64.
        labels: (N,) int in 0..K-1.
        temperature: above 0; 1 before calibration.
        bins: of the ECE.

    Raises:
        InputError: no images, a label outside 0..K-1, a logit that is not finite, a bad temperature or bins.
    """
    classes = checked_labels(logits, labels)
    predictions = logits.argmax(axis=1)
    correct = predictions == classes
    counted = (classes[correct], classes, predictions)
    hits, truth, verdict = (np.bincount(c, minlength=logits.shape[1]) for c in counted)
    confidence, nll, brier = probability_quality(logits, classes, temperature)
    return {
        "accuracy": float(correct.mean()),
        "balanced_accuracy": float(np.mean(hits[truth > 0] / truth[truth > 0])),
        "macro_f1": _macro_f1(hits, truth, verdict),
        "nll": float(nll.mean()),
        "brier": float(brier.mean()),
        "ece": Reliability.of(confidence, correct, bins=bins).ece(),
    }


def _macro_f1(hits: Array, truth: Array, verdict: Array) -> float:
    """Mean F1 = 2 hits / (truth + verdict) over the classes that have an image or a prediction."""
    present = truth + verdict > 0
    return float(np.mean(2 * hits[present] / (truth + verdict)[present]))
