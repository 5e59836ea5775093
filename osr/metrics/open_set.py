"""Every open-set number that looks at all thresholds. Higher score = more unknown; accept when s <= theta.

K stands for known test images, U for unknown ones. The open-set metrics are read from an `Acceptance`: how
many images each distinct score accepts. One sort makes it, and equal scores always move together.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.metrics.counting import dot, windows
from osr.metrics.risk import risk_metrics
from osr.metrics.thresholds import Acceptance, count_accepted, required_count

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
    values = *_areas(accepted), fpr_at_tpr_known(accepted, 0.95), fpr_at_tpr_unknown(accepted, 0.95)
    return dict(zip(HEADLINE, values, strict=True))


def fpr_at_tpr_known(accepted: Acceptance, tpr: float) -> float:
    """Share of U accepted by the smallest theta that accepts the share `tpr` of K (Liang et al. 2018).

    Above 1, which no theta reaches, everything is accepted.
    """
    if tpr > 1 + 1e-9:
        return 1.0
    row = accepted.first_row(required_count(tpr, accepted.num_known))
    return int(accepted.unknown[row]) / accepted.num_unknown


def fpr_at_tpr_unknown(accepted: Acceptance, tpr: float) -> float:
    """Share of K rejected by the largest theta that rejects the share `tpr` of U (OpenOOD v1.5).

    Above 1, which no theta reaches, everything is rejected.
    """
    if tpr > 1 + 1e-9:
        return 1.0
    allowed = accepted.num_unknown - required_count(tpr, accepted.num_unknown)
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
        **risk_metrics(accepted),
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


def _areas(accepted: Acceptance) -> tuple[float, float, float, float]:
    """AUROC, AUOSCR and both average precisions in one pass.

    The first two are trapezoids over the share of U accepted: sums of whole numbers, exact below 2^53. An
    average precision is the precision of each row times the positives it adds, before division.
    """
    num_known, num_unknown = accepted.num_known, accepted.num_unknown
    sums = np.zeros(4)
    for rows in windows(len(accepted.thresholds)):
        counts = (accepted.known, accepted.correct, accepted.unknown)
        known, correct, unknown = (of[rows].astype(np.float64) for of in counts)
        # Of a resampled test set the outer rows may select no image; they add none either.
        taken = np.maximum(known + unknown, 1)[1:]
        left = np.maximum(num_known + num_unknown - known - unknown, 1)[:-1]
        more_unknown = np.diff(unknown)
        sums += (
            dot(known[1:] + known[:-1], more_unknown),
            dot(correct[1:] + correct[:-1], more_unknown),
            dot((num_unknown - unknown[:-1]) / left, more_unknown),
            dot(known[1:] / taken, np.diff(known)),
        )
    pairs = 2 * num_known * num_unknown
    auroc, auoscr, aupr_unknown, aupr_known = sums / (pairs, pairs, num_unknown, num_known)
    return float(auroc), float(auoscr), float(aupr_unknown), float(aupr_known)


def _precision(positives: Array, negatives: Array) -> FloatArray:
    selected = positives + negatives
    shares: FloatArray = np.divide(positives, selected, out=np.ones(len(selected)), where=selected > 0)
    return shares
