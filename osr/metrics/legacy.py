"""Metrics as published code computes them, to reproduce a paper's number; our own results never use them.

Three code bases: ARPL (Chen et al. 2021; Vaze et al. 2022 carry a copy), OpenOOD (Zhang et al. 2023) and the
seed of this project (alobo01/mai-dl2). What agrees with `osr.metrics.open_set` has no function here: the
AUROC of OpenOOD, of the seed and of Vaze's later scripts, and Vaze's AUPR, which is `aupr_unknown`. ARPL and
the seed compute no ECE. Scores have our sign: higher = more unknown. K and U as in `osr.metrics.open_set`;
results in 0..1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.calibration.probabilities import checked_classes, checked_labels
from osr.errors import InputError
from osr.metrics.open_set import curves, headline_metrics
from osr.metrics.thresholds import Acceptance, checked_scores, count_accepted

Array = NDArray[Any]
BoolArray = NDArray[np.bool_]


def arpl_auroc(known: ArrayLike, unknown: ArrayLike) -> float:
    """P(s_U > s_K): ARPL's AUROC counts a tie as 0 instead of 1/2, so it is lower by half the tied pairs.

    Scores all equal give 0 instead of 1/2; without ties it equals `auroc`.

    Args:
        known: (n_K,) real scores.
        unknown: (n_U,) real scores.

    Raises:
        InputError: a vector is empty or holds a NaN; so in every function here.
    """
    scores = checked_scores(known, name="scores")
    return _strictly_below(scores, checked_scores(unknown, name="scores"), np.ones(len(scores), np.bool_))


def arpl_fpr_at_95tpr(known: ArrayLike, unknown: ArrayLike) -> float:
    """1 - ARPL's "TNR": share of U accepted where the share of K accepted is nearest to 95 %, above or below.

    `fpr_at_95tpr_known` takes the largest accepted known score as theta; here every unknown up to the
    smallest rejected one is accepted as well, which alone gives more. Nearest may be one known fewer, which
    gives less. With fewer than 10 known images all are accepted, and so are all unknowns: 1.0 even for
    perfect scores. Arguments as in `arpl_auroc`.
    """
    scores, others = np.sort(checked_scores(known, name="scores")), checked_scores(unknown, name="scores")
    counts = np.arange(len(scores), -1, -1)
    accepted = counts[np.abs(counts / len(scores) - 0.95).argmin()]
    return 1.0 if accepted == len(scores) else float(np.mean(others <= scores[accepted]))


def arpl_auin(known: ArrayLike, unknown: ArrayLike) -> float:
    """ARPL's AUPR with K as positives: trapezoids instead of the steps of `aupr_known`.

    Its curve ends in precision 0 at recall 0, which costs a perfect detector 1 / (2 n_K). Images of one
    score enter one by one, unknown ones first when counted from the most known. Arguments as in `arpl_auroc`.
    """
    return _arpl_pr_area(_one_by_one(known, unknown))


def arpl_auout(known: ArrayLike, unknown: ArrayLike) -> float:
    """ARPL's AUPR with U as positives: `arpl_auin` from the other end, known images of one score first.

    A perfect detector gets 1 - 1 / (2 n_U); the step form is `aupr_unknown`. Arguments as in `arpl_auroc`.
    """
    return _arpl_pr_area(~_one_by_one(known, unknown)[::-1])


def arpl_oscr(known: ArrayLike, known_correct: ArrayLike, unknown: ArrayLike) -> float:
    """ARPL's and Vaze's area under OSCR, whose CCR is counted one image later than its FPR.

    Without ties it lies below `auoscr` by m / (2 n_K n_U), m being how many unknowns have a correctly
    classified known image next below them in score: at most 1 / (2 max(n_K, n_U)). Tied images move one by
    one in the order that `np.argsort` leaves them in, which depends on the machine; here the sort is stable
    with K before U, so that ties count 0.

    Args:
        known: (n_K,) real scores.
        known_correct: (n_K,) bool, whether the predicted known class is right.
        unknown: (n_U,) real scores.
    """
    accepted = count_accepted(known, known_correct, unknown)  # refuses what is no such triple
    scores = np.concatenate((np.asarray(known), np.asarray(unknown)))
    order = np.argsort(-scores, kind="stable")
    correct = np.append(np.asarray(known_correct), np.zeros(accepted.num_unknown, np.bool_))[order]
    # later[j]: correct images at position j or after it, where the most unknown image has position 0
    later = np.append(np.cumsum(correct[::-1])[::-1], (0, 0))
    at = np.flatnonzero(order >= accepted.num_known)
    return float((later[at + 1] + later[at + 2]).sum()) / (2 * accepted.num_known * accepted.num_unknown)


def openood_v1_fpr_at_95tpr(known: ArrayLike, unknown: ArrayLike) -> float:
    """OpenOOD 1.0: share of U strictly below the floor(0.95 n_K)-th smallest known score.

    Never above `fpr_at_95tpr_known`, which accepts ceil(0.95 n_K) and unknowns that tie with theta: lower by
    the unknowns between these two known scores, and by the ties. Arguments as in `arpl_auroc`.
    """
    scores, others = np.sort(checked_scores(known, name="scores")), checked_scores(unknown, name="scores")
    required = math.floor(0.95 * len(scores))
    return float(np.mean(others < scores[required - 1]))


def openood_fpr_at_95tpr(known: ArrayLike, unknown: ArrayLike) -> float:
    """OpenOOD 1.5: share of K rejected where 95 % of U are; its "FPR@95" is the other orientation.

    Equals `fpr_at_95tpr_unknown` without ties. With ties it can only be higher: scikit-learn's `roc_curve`
    leaves out points inside a straight piece, and the end of that piece is taken. Arguments as in
    `arpl_auroc`.
    """
    accepted = _accepted(known, unknown)
    known_left = (accepted.num_known - accepted.known)[-2::-1]
    unknown_left = (accepted.num_unknown - accepted.unknown)[-2::-1]
    corner = (np.diff(known_left, 2) != 0) | (np.diff(unknown_left, 2) != 0)
    kept = np.concatenate(([True], corner, [True]))[: len(known_left)]
    enough = unknown_left[kept] / accepted.num_unknown >= 0.95
    return int(known_left[kept][enough][0]) / accepted.num_known


def openood_aupr_in(known: ArrayLike, unknown: ArrayLike) -> float:
    """OpenOOD's AUPR-In: K as positives, with straight lines between the points of the curve.

    `aupr_known` sums steps. The line starts at precision 1, so equal scores give (1 + share of K) / 2 instead
    of the share of K. Arguments as in `arpl_auroc`.
    """
    points = curves(_accepted(known, unknown))
    return float(np.trapezoid(points["pr_known_precision"], points["pr_known_recall"]))


def openood_aupr_out(known: ArrayLike, unknown: ArrayLike) -> float:
    """OpenOOD's AUPR-Out: U as positives, with straight lines where `aupr_unknown` has steps.

    Equal scores give (1 + share of U) / 2 instead of the share of U. Arguments as in `arpl_auroc`.
    """
    points = curves(_accepted(known, unknown))
    return -float(np.trapezoid(points["pr_unknown_precision"], points["pr_unknown_recall"]))


def openood_v1_ccr_at_fpr(known: ArrayLike, correct: ArrayLike, unknown: ArrayLike, *, fpr: float) -> float:
    """OpenOOD 1.0's CCR: share of K right and strictly below the ceil(fpr n_U)-th smallest unknown score.

    That accepts at most ceil(fpr n_U) - 1 unknowns where `ccr_at_fpr` allows floor(fpr n_U), so it is never
    higher; where that metric is NaN, because fpr < 1 / n_U, this one is the share below every unknown.

    Arguments as in `arpl_oscr`; `fpr` is above 0 and at most 1.
    """
    if not 0 < fpr <= 1:
        raise InputError(f"fpr must be above 0 and at most 1, not {fpr}.")
    num_unknown = count_accepted(known, correct, unknown).num_unknown
    theta = np.sort(np.asarray(unknown))[math.ceil(fpr * num_unknown) - 1]
    return float(np.mean((np.asarray(known) < theta) & np.asarray(correct)))


def openood_ece(logits: Array, labels: ArrayLike, *, bins: int) -> float:
    """OpenOOD's ECE, whose confidence is the largest raw logit and whose last bin leaves out exactly 1.

    Images outside [0, 1) are in no bin and count in no weight; if all are, the result is 0.0, and that is the
    rule for logits of a trained network. Given probabilities instead of logits it differs from
    `Reliability.ece` by the images of confidence 1, and by those on an edge, which go into the bin above it.

    Args:
        logits: (N, K) finite floats.
        labels: (N,) int in 0..K-1.
        bins: at least 1.
    """
    classes = checked_labels(logits, labels)
    if bins < 1:
        raise InputError(f"An ECE needs at least 1 bin, not {bins}.")
    confidence = logits.max(axis=1).astype(np.float64)
    gap = (logits.argmax(axis=1) == classes) - confidence
    position = np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side="right") - 1
    inside = (position >= 0) & (position < bins)
    per_bin = np.bincount(position[inside], gap[inside], minlength=bins)
    return float(np.abs(per_bin).sum() / inside.sum()) if inside.any() else 0.0


def seed_oscr(known_probabilities: Array, labels: ArrayLike, unknown_probabilities: Array) -> float:
    """The seed's area under OSCR: P(right, s_K < s_U) of s = -max p, whatever detector the run was about.

    Lower than the `auoscr` of MSP by half the tied pairs: images of one score move one by one, the unknown
    ones first where the sort is stable, as they stand last in the arrays.

    Softmax outputs are (n_K, K) and (n_U, K), labels (n_K,) int in 0..K-1.
    """
    num_known, num_classes = known_probabilities.shape
    classes = checked_classes(labels, num_known, num_classes, name="labels")
    correct = known_probabilities.argmax(axis=1) == classes
    known, unknown = (-p.max(axis=1) for p in (known_probabilities, unknown_probabilities))
    return _strictly_below(
        checked_scores(known, name="scores"), checked_scores(unknown, name="scores"), correct
    )


def seed_aupr_in(known: ArrayLike, unknown: ArrayLike) -> float:
    """The seed's "aupr_in" takes U as positives: it is `aupr_unknown`, which others call AUPR-Out."""
    return headline_metrics(_accepted(known, unknown))["aupr_unknown"]


def seed_aupr_out(known: ArrayLike, unknown: ArrayLike) -> float:
    """The seed's "aupr_out" takes K as positives: it is `aupr_known`, which others call AUPR-In."""
    return headline_metrics(_accepted(known, unknown))["aupr_known"]


def seed_u_recall_at_95_seen_precision(known: ArrayLike, unknown: ArrayLike) -> float:
    """The seed reads its threshold one place off and accepts one distinct score more than it may.

    `u_recall_at_95_seen_precision` stops before it, so this is lower by the share of U at that score, and the
    accepted set may be less than 95 % known. Where ours is NaN, as no threshold will do, it accepts the
    smallest score. Arguments as in `arpl_auroc`.
    """
    accepted = _accepted(known, unknown)
    precise = np.flatnonzero(accepted.known >= 19 * accepted.unknown.astype(np.int64))  # row 0 always is
    row = min(int(precise[-1]) + 1, len(accepted.thresholds))
    return (accepted.num_unknown - int(accepted.unknown[row])) / accepted.num_unknown


def _accepted(known: ArrayLike, unknown: ArrayLike) -> Acceptance:
    return count_accepted(known, np.zeros(np.shape(known), np.bool_), unknown)


def _strictly_below(known: Array, unknown: Array, members: BoolArray) -> float:
    """Share of all n_K n_U pairs with s_K < s_U whose known image is a member."""
    below = np.searchsorted(np.sort(known[members]), unknown, side="left")
    return int(below.sum()) / (len(known) * len(unknown))


def _one_by_one(known: ArrayLike, unknown: ArrayLike) -> BoolArray:
    """(n,) bool, which image is known, from the lowest score up; of equal scores the unknown ones first."""
    accepted = checked_scores(known, name="scores")
    scores = np.append(accepted, checked_scores(unknown, name="scores"))
    is_known = np.arange(len(scores)) < len(accepted)
    return is_known[np.lexsort((is_known, scores))]


def _arpl_pr_area(positive: BoolArray) -> float:
    """Trapezoids under precision against recall of images in their order, from (0, 0) on."""
    hits = np.cumsum(positive)
    precision = np.append(0.0, hits / np.arange(1, len(hits) + 1))
    return float(np.trapezoid(precision, np.append(0.0, hits / hits[-1])))
