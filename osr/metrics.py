"""Every number of an open-set result. Higher score = more unknown; accept as known when s <= theta.

K stands for known test images, U for unknown ones. The open-set metrics are read from an `Acceptance`: how
many images each distinct score accepts. One sort makes it, and equal scores always move together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.calibration import Reliability, checked_classes, checked_labels, probability_quality
from osr.errors import InputError
from osr.thresholds import WINDOW, Acceptance, checked_scores, count_accepted, required_count

HEADLINE = ("auroc", "auoscr", "aupr_unknown", "aupr_known", "fpr_at_95tpr_known", "fpr_at_95tpr_unknown")
FPR_LEVELS = (0.001, 0.01, 0.1, 0.2, 0.5)

Array = NDArray[Any]
FloatArray = NDArray[np.float64]


def headline_metrics(accepted: Acceptance) -> dict[str, float]:
    """The metrics of `HEADLINE`, each in 0..1.

    auroc: P(s_U > s_K) + P(s_U = s_K) / 2.
    auoscr: P(right, s_K < s_U) + P(right, s_K = s_U) / 2, the trapezoid under OSCR (Dhamija et al. 2018).
    aupr_unknown: average precision with U as positives, rejected from the highest score down.
    aupr_known: average precision with K as positives, accepted from the lowest score up.
    """
    values = *_areas(accepted), fpr_at_95tpr_known(accepted), fpr_at_95tpr_unknown(accepted)
    return dict(zip(HEADLINE, values, strict=True))


def fpr_at_95tpr_known(accepted: Acceptance) -> float:
    """Share of U accepted by the smallest theta that accepts 95 % of K (Liang et al. 2018)."""
    row = accepted.first_row(required_count(0.95, accepted.num_known))
    return int(accepted.unknown[row]) / accepted.num_unknown


def fpr_at_95tpr_unknown(accepted: Acceptance) -> float:
    """Share of K rejected by the largest theta that rejects 95 % of U (OpenOOD v1.5)."""
    allowed = accepted.num_unknown - required_count(0.95, accepted.num_unknown)
    return (accepted.num_known - int(accepted.known[accepted.last_row(allowed)])) / accepted.num_known


def ccr_at_fpr(accepted: Acceptance, fpr: float) -> float:
    """Largest share of K accepted and right while at most `fpr` of U is accepted; NaN when fpr < 1 / n_U."""
    allowed = math.floor(fpr * accepted.num_unknown * (1 + 1e-12))
    return int(accepted.correct[accepted.last_row(allowed)]) / accepted.num_known if allowed else math.nan


def u_recall_at_95_seen_precision(accepted: Acceptance) -> float:
    """Share of U rejected by the largest theta whose accepted images are 95 % known; NaN if there is none.

    Depends on the prevalence: the same scores with more unknown images give another value.
    """
    # known / (known + unknown) >= 95 / 100 in whole numbers
    wide = np.int64 if 19 * accepted.num_unknown >= 2**31 else accepted.unknown.dtype
    pure = accepted.known[1:] >= np.multiply(accepted.unknown[1:], 19, dtype=wide)
    if not pure.any():
        return math.nan
    last = len(pure) - int(np.argmax(pure[::-1]))
    return (accepted.num_unknown - int(accepted.unknown[last])) / accepted.num_unknown


def oracle_threshold(accepted: Acceptance) -> float:
    """Theta with the largest known acceptance + unknown rejection (Youden's J); the smallest such theta.

    It has seen the unknown test images: a bound for honest thresholds, never a result.
    """
    num_known, num_unknown = np.int64(accepted.num_known), np.int64(accepted.num_unknown)
    gain = accepted.known[1:] * num_unknown - accepted.unknown[1:] * num_known  # exact, so that ties are ties
    return float(accepted.thresholds[np.argmax(gain)])


def open_set_metrics(known: ArrayLike, known_correct: ArrayLike, unknown: ArrayLike) -> dict[str, float]:
    """`metrics_of` scores; arguments and errors are those of `count_accepted`."""
    return metrics_of(count_accepted(known, known_correct, unknown))


def metrics_of(accepted: Acceptance) -> dict[str, float]:
    """Every open-set metric by its name in the field guide, in 0..1; `prevalence` is the share of U."""
    return {
        **headline_metrics(accepted),
        "prevalence": accepted.num_unknown / (accepted.num_known + accepted.num_unknown),
        **{f"ccr_at_fpr_{fpr:g}": ccr_at_fpr(accepted, fpr) for fpr in FPR_LEVELS},
        "u_recall_at_95_seen_precision": u_recall_at_95_seen_precision(accepted),
    }


def curves(accepted: Acceptance) -> dict[str, FloatArray]:
    """Points of every curve, (G + 1,) float64 each; one row belongs to one `threshold`, -inf in row 0.

    `oscr_fpr` and `oscr_ccr` rise from 0: shares of U accepted, and of K accepted and right. `roc_fpr` and
    `roc_tpr` fall from 1: unknown is positive, shares of K and of U rejected. `pr_unknown_*` take U as
    positives among the rejected, `pr_known_*` K among the accepted; an empty set has precision 1.
    """
    known, unknown = accepted.known, accepted.unknown
    known_left, unknown_left = accepted.num_known - known, accepted.num_unknown - unknown
    return {
        "threshold": np.concatenate(([-np.inf], accepted.thresholds)),
        "oscr_fpr": unknown / accepted.num_unknown,
        "oscr_ccr": accepted.correct / accepted.num_known,
        "roc_fpr": known_left / accepted.num_known,
        "roc_tpr": unknown_left / accepted.num_unknown,
        "pr_unknown_recall": unknown_left / accepted.num_unknown,
        "pr_unknown_precision": _precision(unknown_left, known_left),
        "pr_known_recall": known / accepted.num_known,
        "pr_known_precision": _precision(known, unknown),
    }


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
        unknown_scores: (n_U,) real.
        unknown_predictions: (n_U,) int in 0..K-1.
        num_classes: K.

    Raises:
        InputError: theta or a score is NaN, a class is outside its range, or lengths disagree.
    """
    if math.isnan(threshold):
        raise InputError("The threshold must be a number, not NaN.")
    known = checked_scores(known_scores, name="scores of known test images")
    unknown = checked_scores(unknown_scores, name="scores of unknown test images")
    truth = np.append(
        checked_classes(known_labels, len(known), num_classes, name="known_labels"),
        np.full(len(unknown), num_classes),
    )
    classes = np.append(
        checked_classes(known_predictions, len(known), num_classes, name="known_predictions"),
        checked_classes(unknown_predictions, len(unknown), num_classes, name="unknown_predictions"),
    )
    verdict = np.where(np.append(known <= threshold, unknown <= threshold), classes, num_classes)
    size = num_classes + 1
    return np.bincount(truth * size + verdict, minlength=size * size).reshape(size, size)


def operating_point(confusion: NDArray[np.int64]) -> dict[str, float]:
    """Known acceptance, unknown rejection, K+1 accuracy macro-F1 of a `confusion_matrix`, all in 0..1."""
    hits, truth, verdict = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "known_acceptance": float(confusion[:-1, :-1].sum() / truth[:-1].sum()),
        "unknown_rejection": float(hits[-1] / truth[-1]),
        "kplus1_accuracy": float(hits.sum() / truth.sum()),
        "kplus1_macro_f1": _macro_f1(hits, truth, verdict),
    }


def openness(num_known: int, num_unknown: int) -> float:
    """1 - sqrt(2K / (2K + number of unknown classes)), in 0..1 (Geng et al. 2020)."""
    if num_known < 1 or num_unknown < 0:
        raise InputError(
            f"openness needs at least 1 known class and no negative count, not {num_known}, {num_unknown}."
        )
    return 1 - math.sqrt(2 * num_known / (2 * num_known + num_unknown))


def closed_set_metrics(
    logits: Array, labels: ArrayLike, *, temperature: float, bins: int
) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro-F1, NLL (nats), Brier (0..2) and ECE of known images.

    Balanced accuracy averages over classes with images, macro-F1 over classes with images or predictions.

    Args:
        logits: (N, K) finite floats; probabilities are softmax(logits / temperature), in float64.
        labels: (N,) int in 0..K-1.
        temperature: above 0; 1 before calibration.
        bins: of the ECE; 15 in most papers.

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


def _areas(accepted: Acceptance) -> tuple[float, float, float, float]:
    """AUROC, AUOSCR and both average precisions in one pass.

    The first two are trapezoids over the share of U accepted: sums of whole numbers, exact below 2^53. An
    average precision is the precision of each row times the positives it adds, before division.
    """
    num_known, num_unknown = accepted.num_known, accepted.num_unknown
    sums = np.zeros(4)
    for rows in _windows(accepted):
        counts = (accepted.known, accepted.correct, accepted.unknown)
        known, correct, unknown = (of[rows].astype(np.float64) for of in counts)
        # Of a resampled test set the outer rows may select no image; they add none either.
        taken = np.maximum(known + unknown, 1)[1:]
        left = np.maximum(num_known + num_unknown - known - unknown, 1)[:-1]
        more_unknown = np.diff(unknown)
        sums += (
            (known[1:] + known[:-1]) @ more_unknown,
            (correct[1:] + correct[:-1]) @ more_unknown,
            ((num_unknown - unknown[:-1]) / left) @ more_unknown,
            (known[1:] / taken) @ np.diff(known),
        )
    pairs = 2 * num_known * num_unknown
    auroc, auoscr, aupr_unknown, aupr_known = sums / (pairs, pairs, num_unknown, num_known)
    return float(auroc), float(auoscr), float(aupr_unknown), float(aupr_known)


def _windows(accepted: Acceptance) -> Iterator[slice]:
    """Runs of rows that fit in the processor's cache; each begins with the last row of the one before."""
    for start in range(0, len(accepted.thresholds), WINDOW):
        yield slice(start, start + WINDOW + 1)


def _precision(positives: Array, negatives: Array) -> FloatArray:
    selected = positives + negatives
    shares: FloatArray = np.divide(positives, selected, out=np.ones(len(selected)), where=selected > 0)
    return shares


def _macro_f1(hits: Array, truth: Array, verdict: Array) -> float:
    """Mean F1 = 2 hits / (truth + verdict) over the classes that have an image or a prediction."""
    present = truth + verdict > 0
    return float(np.mean(2 * hits[present] / (truth + verdict)[present]))
