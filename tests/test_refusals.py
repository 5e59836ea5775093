"""Every function of osr.metrics that takes scores, classes or shares says which of them is wrong, and why."""

import math
import re

import numpy as np
import pytest
from test_class_thresholds import outputs_of
from test_metrics import sample

from osr.errors import InputError
from osr.metrics.bootstrap import oscr_band
from osr.metrics.comparison import delong_test, paired_t_test
from osr.metrics.costs import least_cost_threshold
from osr.metrics.decisions import confusion_matrix
from osr.metrics.delong import auroc_covariance
from osr.metrics.false_discovery import FalseDiscovery
from osr.metrics.groups import Groups, equal_shares
from osr.metrics.judged import Judged
from osr.metrics.legacy import (
    arpl_auin,
    arpl_auout,
    arpl_auroc,
    arpl_fpr_at_95tpr,
    openood_ece,
    openood_v1_ccr_at_fpr,
    openood_v1_fpr_at_95tpr,
    seed_oscr,
)
from osr.metrics.monitoring import Monitor
from osr.metrics.multiple_comparisons import critical_difference, friedman_test, holm
from osr.metrics.per_class import Unknowns, known_classes, unknown_classes
from osr.metrics.resampling import resample
from osr.metrics.settings import CostsSettings
from osr.metrics.statistics import percentile_interval, t_interval
from osr.metrics.thresholds import (
    conformal_p_values,
    count_accepted,
    count_known,
    fit_background_threshold,
    fit_class_thresholds,
    fit_threshold,
)
from osr.splits.openness import openness

GOOD, RIGHT = [0.0, 1.0], [True, False]
COSTS = CostsSettings(misclassified_known=1.0, accepted_unknown=1.0, rejected_known=1.0, rejected_unknown=0.0)
TWO_IMAGES = outputs_of(np.array([0, 1]), np.array([0, -1]))
NOTHING_ASSUMED = {"prevalence": 0.5, "assumed_auroc": 0.9}


def class_thresholds(scores):
    return fit_class_thresholds(scores, [0, 0], class_names=("a",), target_acceptance=0.5)


def by_class(target):
    return fit_class_thresholds(GOOD, [0, 0], class_names=("a",), target_acceptance=target)


def by_unknown_class(known=GOOD, unknown=GOOD, predictions=(0, 0)):
    unknowns = Unknowns(np.array([0, 0]), (("far", "sky"),))
    return unknown_classes(
        0.5, known, unknown, unknowns=unknowns, predictions=predictions, known_names=("a", "b")
    )


def matrix(known=GOOD, unknown=GOOD):
    return confusion_matrix(
        0.5,
        known,
        known_labels=[0, 0],
        known_predictions=[0, 0],
        unknown_scores=unknown,
        unknown_predictions=[0, 0],
        num_classes=2,
    )


OF_SCORES = [
    (lambda bad: fit_threshold(bad, target_acceptance=0.5), "scores of validation knowns"),
    (class_thresholds, "scores of validation knowns"),
    (lambda bad: conformal_p_values(bad, GOOD), "scores of validation knowns"),
    (
        lambda bad: fit_background_threshold(bad, GOOD, target_false_acceptance=0.5),
        "scores of validation knowns",
    ),
    (
        lambda bad: fit_background_threshold(GOOD, bad, target_false_acceptance=0.5),
        "scores of background images",
    ),
    (
        lambda bad: least_cost_threshold(bad, RIGHT, COSTS, **NOTHING_ASSUMED),
        "scores of validation knowns",
    ),
    (lambda bad: count_accepted(bad, RIGHT, GOOD), "scores of known test images"),
    (lambda bad: count_accepted(GOOD, RIGHT, bad), "scores of unknown test images"),
    (lambda bad: count_known(bad, RIGHT), "scores of known images"),
    (lambda bad: Judged(TWO_IMAGES, np.asarray(bad)).confusion(0.5), "scores of test images"),
    (lambda bad: by_unknown_class(known=bad), "scores of known test images"),
    (lambda bad: by_unknown_class(unknown=bad), "scores of unknown test images"),
    (lambda bad: matrix(known=bad), "scores of known test images"),
]
LEGACY = (arpl_auroc, arpl_fpr_at_95tpr, arpl_auin, arpl_auout, openood_v1_fpr_at_95tpr)
OF_SCORES += [(lambda bad, function=function: function(bad, GOOD), "scores") for function in LEGACY]
OF_SCORES += [(lambda bad, function=function: function(GOOD, bad), "scores") for function in LEGACY]


@pytest.mark.parametrize(("call", "name"), OF_SCORES)
def test_scores_are_named(call, name):
    call([0.5, 0.25])
    for bad, told in (
        ([], f"The {name} must be a non-empty vector (N,), not an array of shape (0,)."),
        ([GOOD], f"The {name} must be a non-empty vector (N,), not an array of shape (1, 2)."),
        (["a", "b"], f"The {name} must be real numbers, not <U1."),
        ([1j, 0j], f"The {name} must be real numbers, not complex128."),
        ([math.nan, 1.0], f"The {name} must be numbers: 1 of 2 are NaN."),
    ):
        with pytest.raises(InputError, match=f"^{re.escape(told)}$"):
            call(bad)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda bad: matrix(unknown=bad), "scores of unknown test images"),
        (lambda bad: conformal_p_values(GOOD, bad), "scores"),
    ],
)
def test_scores_of_which_there_may_be_none_are_named(call, name):
    for bad in ([math.nan, 1.0], [GOOD], ["a", "b"]):
        with pytest.raises(InputError, match=f"^The {name} must be "):
            call(bad)


@pytest.mark.parametrize(
    "call",
    [
        lambda bad: seed_oscr(bad, [0, 1], np.eye(2)),
        lambda bad: seed_oscr(np.eye(2), [0, 1], bad),
        lambda bad: auroc_covariance(bad, np.eye(2)),
        lambda bad: auroc_covariance(np.eye(2), bad),
    ],
)
def test_scores_of_several_are_named(call):
    call(np.ones((2, 2)))
    with pytest.raises(InputError, match=r"^The scores must be numbers: 1 of 2 are NaN\.$"):
        call(np.array([[1.0, 2.0], [math.nan, 3.0]]))


def known_rows(labels=(0, 1), predictions=(0, 1)):
    return known_classes(np.eye(3, dtype=int), labels=labels, predictions=predictions, names=("a", "b"))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda bad: known_rows(labels=bad), "labels of known images"),
        (lambda bad: known_rows(predictions=bad), "predictions of known images"),
        (lambda bad: by_unknown_class(predictions=bad), "predictions of unknown images"),
        (lambda bad: seed_oscr(np.eye(2), bad, np.eye(2)), "labels"),
    ],
)
def test_classes_are_named(call, name):
    call([0, 1])
    for bad in ([0, 2], [-1, 0]):
        with pytest.raises(InputError, match=f"^{name} must be known classes 0..1"):
            call(bad)


ACCEPTED = sample("continuous", 0)
DRAWS = {"statistic": lambda counts: [counts.num_known], "groups": None}
GROUPS = Groups(np.arange(3), np.arange(2))


@pytest.mark.parametrize(
    ("last", "refused"),
    [
        # the last value that is taken, and the first that is not
        (lambda: fit_threshold(GOOD, target_acceptance=1), lambda: fit_threshold(GOOD, target_acceptance=0)),
        (
            lambda: fit_threshold(GOOD, target_acceptance=1e-9),
            lambda: fit_threshold(GOOD, target_acceptance=1.001),
        ),
        (
            lambda: fit_background_threshold(GOOD, GOOD, target_false_acceptance=0),
            lambda: fit_background_threshold(GOOD, GOOD, target_false_acceptance=-0.001),
        ),
        (
            lambda: fit_background_threshold(GOOD, GOOD, target_false_acceptance=0.999),
            lambda: fit_background_threshold(GOOD, GOOD, target_false_acceptance=1),
        ),
        (
            lambda: least_cost_threshold(GOOD, RIGHT, COSTS, prevalence=0, assumed_auroc=0.5),
            lambda: least_cost_threshold(GOOD, RIGHT, COSTS, prevalence=-0.001, assumed_auroc=0.5),
        ),
        (
            lambda: least_cost_threshold(GOOD, RIGHT, COSTS, prevalence=1, assumed_auroc=0.999),
            lambda: least_cost_threshold(GOOD, RIGHT, COSTS, prevalence=1, assumed_auroc=1),
        ),
        (
            lambda: least_cost_threshold(GOOD, RIGHT, COSTS, prevalence=0.5, assumed_auroc=0.5),
            lambda: least_cost_threshold(GOOD, RIGHT, COSTS, prevalence=0.5, assumed_auroc=0.499),
        ),
        (lambda: by_class(0.001), lambda: by_class(0)),
        (lambda: by_class(0.5), lambda: by_class(1)),
        (lambda: delong(0.001), lambda: delong(0)),
        (lambda: delong(0.999), lambda: delong(1)),
        (lambda: oscr_at([0.0, 1.0]), lambda: oscr_at([0.0, 1.001])),
        (lambda: oscr_at([]), lambda: oscr_at([-0.001])),
        (lambda: oscr_at([0.5]), lambda: oscr_at([[0.5]])),
        (lambda: resampled(replicates=2), lambda: resampled(replicates=1)),
        (lambda: resampled(seed=0), lambda: resampled(seed=-1)),
        (lambda: resampled(num_threads=1), lambda: resampled(num_threads=0)),
        (lambda: Monitor(1), lambda: Monitor(0)),
        (lambda: Monitor(9, 1e-9), lambda: Monitor(9, 0.9e-9)),
        (lambda: Monitor(9, 0.999), lambda: Monitor(9, 1)),
        (lambda: Monitor(9).update([1e-9, 1]), lambda: Monitor(9).update([0])),
        (lambda: Monitor(9).update([]), lambda: Monitor(9).update([1.001])),
        (lambda: FalseDiscovery().add([0, 1]), lambda: FalseDiscovery().add([0, 1.001])),
        (lambda: FalseDiscovery().add([]), lambda: FalseDiscovery().add([-0.001])),
        (lambda: holm([0, 1]), lambda: holm([0, 1.001])),
        (lambda: holm([]), lambda: holm([-0.001])),
        (lambda: holm([0.5]), lambda: holm([[0.5]])),
        (lambda: friedman_test(np.eye(2)), lambda: friedman_test(np.ones((2, 1)))),
        (lambda: friedman_test(np.ones((2, 2))), lambda: friedman_test(np.ones((2, 2, 2)))),
        (lambda: friedman_test(np.ones((2, 2))), lambda: friedman_test([[1, 2], [3, math.inf]])),
        (lambda: critical_difference(2, 2), lambda: critical_difference(1, 2)),
        (lambda: critical_difference(2, 2, significance=0.999), lambda: critical_difference(2, 1)),
        (
            lambda: critical_difference(2, 2, significance=0.001),
            lambda: critical_difference(2, 2, significance=1),
        ),
        (lambda: auroc_covariance([[0, 1]], [[0, 1]]), lambda: auroc_covariance([[0, 1]], [[0]])),
        (lambda: auroc_covariance([0, 1], [0, 1]), lambda: auroc_covariance(np.ones((1, 2, 2)), [[0, 1]])),
        (lambda: auroc_covariance([0, 1], [0, 1]), lambda: auroc_covariance([[0, 1]], np.ones((1, 2, 2)))),
        (lambda: t_interval([0, 1], confidence=0.999), lambda: t_interval([0], confidence=0.999)),
        (lambda: t_interval([0, 1], confidence=0.001), lambda: t_interval([0, 1], confidence=0)),
        (lambda: t_interval([0, 1], confidence=0.5), lambda: t_interval([[0, 1], [0, 1]], confidence=0.5)),
        (
            lambda: percentile_interval([0, 1], estimate=1, confidence=0.999),
            lambda: percentile_interval([0, math.inf], estimate=1, confidence=0.999),
        ),
        (
            lambda: paired_t_test([0, 1], [1, 1], confidence=0.5),
            lambda: paired_t_test([0, 1], [1, math.inf], confidence=0.5),
        ),
        (
            lambda: paired_t_test([0, 1], [1, 1], confidence=0.5),
            lambda: paired_t_test([math.nan, 1], [1, 1], confidence=0.5),
        ),
        (
            lambda: paired_t_test([0, 1], [1, 1], confidence=0.5),
            lambda: paired_t_test([[0, 1]] * 2, [[1, 1]] * 2, confidence=0.5),
        ),
        (lambda: openood_ece(np.eye(2), [0, 1], bins=1), lambda: openood_ece(np.eye(2), [0, 1], bins=0)),
        (
            lambda: openood_v1_ccr_at_fpr(GOOD, RIGHT, GOOD, fpr=1),
            lambda: openood_v1_ccr_at_fpr(GOOD, RIGHT, GOOD, fpr=1.001),
        ),
        (lambda: Groups(np.array([0]), np.array([], int)), lambda: Groups(np.array([], int), np.array([0]))),
        (
            lambda: Groups(np.array([0], np.uint8), np.array([0])),
            lambda: Groups(np.array([[0]]), np.array([0])),
        ),
        (lambda: Groups(np.array([0]), np.array([0])), lambda: Groups(np.array([0]), np.array([0.0]))),
        (lambda: GROUPS.check_sizes(3, 2), lambda: GROUPS.check_sizes(3, 3)),
        (lambda: GROUPS.check_sizes(3, 2), lambda: GROUPS.check_sizes(2, 2)),
        (lambda: equal_shares([1, 2], 2), lambda: equal_shares([1.0, 2.0], 2)),
        (lambda: equal_shares(np.array([1, 2], np.uint8), 2), lambda: equal_shares([[1, 2]], 2)),
        (
            lambda: Unknowns(np.array([0, 1]), (("a", "b"),) * 2),
            lambda: Unknowns(np.array([0, 2]), (("a", "b"),) * 2),
        ),
        (lambda: Unknowns(np.array([], int), ()), lambda: Unknowns(np.array([-1, 0]), (("a", "b"),) * 2)),
        (lambda: openness(1, 0), lambda: openness(0, 0)),
        (lambda: openness(1, 0), lambda: openness(1, -1)),
    ],
)
def test_limits(last, refused):
    last()
    with pytest.raises(InputError, match=r"[a-z].*\.$"):
        refused()


def delong(confidence):
    return delong_test(ACCEPTED, ACCEPTED, confidence=confidence)


def oscr_at(fpr):
    return oscr_band(*ACCEPTED, fpr=fpr, replicates=2, confidence=0.5, seed=0)


def resampled(**changes):
    return resample(*ACCEPTED, **DRAWS | {"replicates": 2, "seed": 0, "num_threads": 1} | changes)
