"""osr.metrics.costs against counts of single images, and intervals against many drawn test sets."""

from __future__ import annotations

import math

import finished_run
import numpy as np
import pytest
from scipy.stats import norm
from test_class_thresholds import ROOT, outputs_of
from test_metrics import sample

from osr.errors import InputError
from osr.metrics.costs import cost_curve, expected_cost, least_cost_threshold
from osr.metrics.decisions import confusion_matrix, operating_point
from osr.metrics.groups import Groups
from osr.metrics.judged import Judged, cost_metrics
from osr.metrics.settings import CostsSettings
from osr.metrics.thresholds import count_accepted

COSTS = CostsSettings(misclassified_known=2.0, accepted_unknown=5.0, rejected_known=0.5, rejected_unknown=0.1)


def cost_at(theta, scored, costs=COSTS, **args):
    known, correct, unknown = scored
    return expected_cost(known <= theta, correct, unknown <= theta, costs, confidence=0.95, **args)


def one_by_one(theta, known, correct, unknown, prevalence):
    of_known = [
        (0 if right else 2.0) if score <= theta else 0.5 for score, right in zip(known, correct, strict=True)
    ]
    of_unknown = [5.0 if score <= theta else 0.1 for score in unknown]
    return (1 - prevalence) * np.mean(of_known) + prevalence * np.mean(of_unknown)


@pytest.mark.parametrize("kind", ["continuous", "tied", "constant"])
@pytest.mark.parametrize("prevalence", [0.0, 0.3, 1.0])
def test_every_threshold_costs_what_its_images_cost(kind, prevalence):
    scored = sample(kind, 1)
    counts = count_accepted(*scored)
    curve = cost_curve(counts, COSTS, prevalence)
    for theta, cost in zip((-math.inf, *counts.thresholds), curve, strict=True):
        assert cost == pytest.approx(one_by_one(theta, *scored, prevalence), abs=1e-12)
        found, low, high = cost_at(theta, scored, prevalence=prevalence)
        assert found == pytest.approx(cost, abs=1e-12)
        assert 0 <= low <= found <= high <= 5


@pytest.mark.parametrize("kind", ["continuous", "tied"])
def test_the_metrics_of_a_run_are_those_of_its_images(kind):
    scored = known, right, unknown = sample(kind, 2)
    predictions = np.r_[np.where(right, 0, 1), np.zeros(len(unknown), int)]
    labels = np.r_[np.zeros(len(known), int), np.full(len(unknown), -1)]
    test = Judged(outputs_of(predictions, labels), np.r_[known, unknown])
    settings = finished_run.params_of(ROOT).evaluate.model_copy(update={"costs": COSTS, "prevalence": 0.3})
    held_out = sample(kind, 5)[0]  # of ties some stand at the thresholds
    theta, asked = float(np.median(known)), {"prevalence": 0.3, "assumed_auroc": settings.assumed_auroc}
    found = cost_metrics({"a": test}, {"a": theta}, {"a": held_out}, np.full(40, True), settings)
    least = least_cost_threshold(held_out, np.full(40, True), COSTS, **asked)
    by_hand = {
        "cost_threshold": least.value,
        "assumed_expected_cost": least.cost,
        "expected_cost": one_by_one(theta, *scored, 0.3),
        "expected_cost_at_cost_threshold": one_by_one(least.value, *scored, 0.3),
        "known_acceptance_at_cost_threshold": np.mean(known <= least.value),
        "unknown_rejection_at_cost_threshold": np.mean(unknown > least.value),
        "oracle_expected_cost": min(one_by_one(at, *scored, 0.3) for at in (-math.inf, *known, *unknown)),
    }
    for name, value in by_hand.items():
        assert found[name]["a"] == pytest.approx(value), name
    assert found["expected_cost_low"]["a"] < found["expected_cost"]["a"] < found["expected_cost_high"]["a"]
    assert found["expected_cost_accepting_all"] == pytest.approx(0.7 * 2.0 * np.mean(~right) + 0.3 * 5.0)
    assert found["expected_cost_rejecting_all"] == pytest.approx(0.7 * 0.5 + 0.3 * 0.1)
    assert found.items() >= asked.items()


def test_without_unknown_images_a_threshold_alone_and_only_at_a_share_that_was_named():
    known, right, _ = sample("continuous", 2)
    test = Judged(outputs_of(np.where(right, 0, 1), np.zeros(40, int)), known)
    settings = finished_run.params_of(ROOT).evaluate
    run = {"a": test}, {"a": 0.5}, {"a": known[:20]}, right[:20]
    assert settings.prevalence == "test"
    assert cost_metrics(*run, settings) == {}
    found = cost_metrics(*run, settings.model_copy(update={"prevalence": 0.3}))
    asked = {"prevalence": 0.3, "assumed_auroc": settings.assumed_auroc}
    least = least_cost_threshold(known[:20], right[:20], settings.costs, **asked)
    assert found == {"cost_threshold": {"a": least.value}, "assumed_expected_cost": {"a": least.cost}} | asked


def test_the_share_of_the_test_images_is_expected_unless_another_is_named():
    known, right, unknown = sample("continuous", 2)
    labels = np.r_[np.zeros(40, int), np.full(30, -1)]
    test = Judged(outputs_of(np.r_[np.where(right, 0, 1), np.zeros(30, int)], labels), np.r_[known, unknown])
    settings = finished_run.params_of(ROOT).evaluate
    found = cost_metrics({"a": test}, {"a": 0.5}, {"a": known[:20]}, right[:20], settings)
    assert found["prevalence"] == 30 / 70


def test_equal_costs_at_the_share_of_the_test_images_are_errors():
    known, correct, unknown = sample("continuous", 2)
    same = CostsSettings(
        misclassified_known=1.0, accepted_unknown=1.0, rejected_known=1.0, rejected_unknown=0.0
    )
    prevalence = len(unknown) / (len(known) + len(unknown))
    cost, *_ = cost_at(0.4, (known, correct, unknown), same, prevalence=prevalence)
    labels = np.zeros(len(known), int)
    matrix = confusion_matrix(
        0.4,
        known,
        known_labels=labels,
        known_predictions=np.where(correct, 0, 1),
        unknown_scores=unknown,
        unknown_predictions=np.zeros(len(unknown), int),
        num_classes=2,
    )
    assert cost == pytest.approx(1 - operating_point(matrix)["kplus1_accuracy"])


def test_the_interval_holds_the_cost_of_the_population_as_often_as_it_says():
    theta, prevalence, rng = 1.0, 0.2, np.random.default_rng(0)
    accepted, wrong = norm.cdf(theta), 0.1
    truth = (1 - prevalence) * (accepted * wrong * 2 + (1 - accepted) * 0.5)
    truth += prevalence * (5 * norm.cdf(theta - 2) + 0.1 * norm.sf(theta - 2))
    held = 0
    for _ in range(400):
        scored = rng.normal(size=80), rng.random(80) >= wrong, rng.normal(2, 1, 60)
        _, low, high = cost_at(theta, scored, prevalence=prevalence)
        held += low <= truth <= high
    assert 0.93 <= held / 400 <= 0.995


def test_images_that_belong_together_know_less():
    known, correct, unknown = sample("continuous", 3)
    scored = tuple(np.repeat(part, 10) for part in (known, correct, unknown))
    groups = Groups(np.repeat(np.arange(40), 10), 40 + np.repeat(np.arange(30), 10))
    once = cost_at(0.5, (known, correct, unknown), prevalence=0.4)
    apart, together = (cost_at(0.5, scored, prevalence=0.4, groups=used) for used in (None, groups))
    assert once[0] == pytest.approx(apart[0]) == pytest.approx(together[0])
    assert together[2] - together[1] > 2 * (apart[2] - apart[1])
    assert together[2] - together[1] == pytest.approx(once[2] - once[1], rel=0.1)


def test_the_threshold_of_least_cost_is_the_best_of_all_under_its_assumption():
    known, correct, _ = sample("tied", 4, 200)
    asked = {"prevalence": 0.3, "assumed_auroc": 0.9}
    found = least_cost_threshold(known, correct, COSTS, **asked)
    apart = np.sqrt(2) * norm.ppf(0.9)

    def cost(theta):
        rejected = (known > theta).mean()
        of_unknown = norm.cdf(apart + norm.ppf(rejected))
        of_known = 2 * (~correct & (known <= theta)).mean() + 0.5 * rejected
        return 0.7 * of_known + 0.3 * (5 * (1 - of_unknown) + 0.1 * of_unknown)

    assert found.cost == pytest.approx(cost(found.value))
    assert found.cost == pytest.approx(min(cost(theta) for theta in (-99, *known)))
    assert found.value in known
    assert least_cost_threshold(np.exp(known), correct, COSTS, **asked).value == np.exp(found.value)


def test_two_normal_populations_meet_the_assumption():
    """With unknowns as assumed the threshold costs no more than the best in hindsight, but for chance."""
    rng = np.random.default_rng(1)
    apart = np.sqrt(2) * norm.ppf(0.9)
    found = least_cost_threshold(
        rng.normal(size=20_000), np.ones(20_000, bool), COSTS, prevalence=0.3, assumed_auroc=0.9
    )
    scored = rng.normal(size=20_000), np.ones(20_000, bool), rng.normal(apart, 1, 20_000)
    cost, low, high = cost_at(found.value, scored, prevalence=0.3)
    assert low <= found.cost <= high
    assert cost <= cost_curve(count_accepted(*scored), COSTS, 0.3).min() + 0.01


def test_what_costs_nothing_decides():
    known, right = np.arange(10.0), np.ones(10, bool)
    free = {"misclassified_known": 1.0, "rejected_known": 1.0, "rejected_unknown": 0.0}
    everything = least_cost_threshold(
        known, right, CostsSettings(**free, accepted_unknown=0.0), prevalence=0.5, assumed_auroc=0.9
    )
    assert (everything.value, everything.cost) == (9.0, 0.0)
    nothing = least_cost_threshold(
        known, right, CostsSettings(**free, accepted_unknown=1.0), prevalence=1.0, assumed_auroc=0.9
    )
    assert nothing.value < 0
    assert nothing.cost == 0


@pytest.mark.parametrize(
    "asked", [{"prevalence": 1.1, "assumed_auroc": 0.9}, {"prevalence": 0.5, "assumed_auroc": 0.4}]
)
def test_an_assumption_outside_its_range_is_refused(asked):
    with pytest.raises(InputError, match=r"needs a prevalence in 0\.\.1"):
        least_cost_threshold([1.0], np.array([True]), COSTS, **asked)
