"""Which interval each number has, against beta quantiles and sums written out in plain float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from test_metrics import sample

from osr.metrics import metric_ends as module
from osr.metrics.bootstrap import bootstrap_intervals, bootstrap_replicates, known_risk_intervals
from osr.metrics.costs import expected_cost
from osr.metrics.groups import Groups
from osr.metrics.intervals import class_mean_with_ends, share_with_ends
from osr.metrics.metric_ends import Units, least_coverage, metric_ends, upper_estimates
from osr.metrics.open_set import HEADLINE
from osr.metrics.resampling import resample
from osr.metrics.risk import RISKS, risk_metrics
from osr.metrics.settings import CostsSettings
from osr.metrics.thresholds import count_accepted, count_known

# Continuity and expected design effect: other ones are other intervals of every recorded run.
SHARE, AREA, RATE, RISK = (0.25, 1.0), (0.5, 1.0), (0.25, 1.5), (0.25, 2.0)
SHAPES = {
    "accuracy": SHARE,
    "auroc": (0.5, 0.75),
    "auoscr": AREA,
    "aupr_unknown": AREA,
    "aupr_known": AREA,
    "fpr_at_95tpr_known": RATE,
    "fpr_at_95tpr_unknown": RATE,
    "aurc": (0.0, 2.0),
    "augrc": AREA,
    "risk_at_80_coverage": RISK,
    "risk_at_95_coverage": RISK,
    "coverage_at_5_risk": RATE,
}
COSTS = CostsSettings(misclassified_known=2.0, accepted_unknown=5.0, rejected_known=0.5, rejected_unknown=0.1)


def beta_ends(value, size, continuity, confidence, above=None):
    """Low and high end of a share of `size` images, the high one made from `above`."""
    tail, above = (1 - confidence) / 2, value if above is None else above
    low, high = 0.0, 1.0
    if value > 0:
        low = stats.beta.ppf(tail, value * size + continuity, (1 - value) * size + 1 - continuity)
    if above < 1:
        high = stats.beta.ppf(1 - tail, above * size + 1 - continuity, (1 - above) * size + continuity)
    return min(low, value), max(high, value)


def size_of(value, variance, units, expected, images=0):
    """The effective size: the design effect that was seen counts as its errors, the expected one as two."""
    variance, single = variance * units / (units - 1), value * (1 - value)
    seen = variance / (single / units) if single else 0.0
    alone = single / variance if variance else math.inf
    errors = min(max(alone, units), max(units, images)) * min(value, 1 - value)
    return units / ((errors * seen + 2 * expected) / (errors + 2))


def ends_of(name, value, variance, units, confidence, above=None):
    continuity, expected = SHAPES[name]
    if name == "accuracy":
        behind = units.known
        size = size_of(value, variance, behind, expected, units.images) if units.images else behind
    elif name in RISKS:
        size = size_of(value, variance, units.known + units.unknown, expected)
    else:
        size = size_of(value, variance, min(units.known, units.unknown), expected, units.images)
    return beta_ends(value, size, continuity, confidence, above)


def test_every_metric_has_an_interval():
    assert set(SHAPES) == {*HEADLINE, *RISKS, "accuracy"} == set(module.SHAPES)


@pytest.mark.parametrize("units", [Units(30, 12), Units(12.0, 30.0), Units(6.5, 4.5, images=100)])
@pytest.mark.parametrize("name", SHAPES)
def test_each_metric_has_its_own(name, units):
    for value, variance in ((0.0, 0.0), (1.0, 0.0), (0.2, 0.001), (0.5, 0.02), (0.9, 0.0)):
        for above in (None, 0.95, 1.0):
            found = metric_ends(name, value, variance, units=units, confidence=0.9, upper_estimate=above)
            assert found == pytest.approx(ends_of(name, value, variance, units, 0.9, above)), value


def test_units_are_images_or_groups_of_them():
    accepted = count_accepted(*sample("tied", 0, 40, 30))
    assert Units.of(accepted, None) == Units(40, 30, 0)
    groups = Groups(np.arange(40) // 4, 10 + np.arange(30) // 10)
    assert Units.of(accepted, groups) == Units(10, 3, 30)
    assert (Units(5, 7).fewest, Units(7, 5).fewest) == (5, 5)


def as_sure(known, correct, unknown, *, units, risk, confidence):
    """Largest coverage whose risk is small at the high end of its interval, one threshold at a time."""
    scores, wrong = np.r_[known, unknown], np.r_[~correct, np.full(len(unknown), True)]
    weight, best = min(1, (units.known + units.unknown) / len(scores)), 0.0
    for theta in np.unique(scores):
        taken, errors = (scores <= theta).sum(), (wrong & (scores <= theta)).sum()
        high = beta_ends(errors / taken, weight * taken, 0.25, confidence)[1]
        if high <= risk:
            best = taken / len(scores)
    return best


@pytest.mark.parametrize("rows", [3, 1 << 13])
@pytest.mark.parametrize(("kind", "risk"), [("separated", 0.05), ("tied", 0.4), ("continuous", 0.3)])
@pytest.mark.parametrize("share", [1.0, 0.3, 2.0])
def test_the_coverage_that_is_sure(kind, risk, share, rows, monkeypatch):
    monkeypatch.setattr(module, "ROWS", rows)
    known, correct, unknown = sample(kind, 1, 200, 20)
    correct |= known < 0.5
    asked = {"units": Units(200 * share, 20 * share), "risk": risk, "confidence": 0.8}
    found = least_coverage(count_accepted(known, correct, unknown), **asked)
    assert found == as_sure(known, correct, unknown, **asked)
    assert found > 0


def test_few_images_are_not_sure_of_a_small_risk():
    accepted = count_accepted(np.arange(5.0), np.full(5, True), [9.0])
    assert least_coverage(accepted, Units(5, 1), risk=0.05, confidence=0.95) == 0
    with_risk = count_accepted(np.arange(5.0), np.full(5, False), [9.0])
    assert least_coverage(with_risk, Units(5, 1), risk=0.05, confidence=0.95) == 0


@pytest.mark.parametrize(
    "units", [Units(40, 30), Units(25.0, 19.0, images=30), Units(18.9, 18.9), Units(19, 40)]
)
def test_the_high_end_of_an_fpr_is_that_of_one_image_more(units):
    known, correct, unknown = sample("tied", 2)
    found = upper_estimates(count_accepted(known, correct, unknown), units)
    asked = [0.95 * (number + 1) / number for number in (units.known, units.unknown)]
    thetas = np.unique(np.r_[-np.inf, known, unknown])
    by_known = [np.mean(unknown <= t) for t in thetas if np.mean(known <= t) >= asked[0] - 1e-9]
    by_unknown = [np.mean(known > t) for t in thetas if np.mean(unknown > t) >= asked[1] - 1e-9]
    assert found["fpr_at_95tpr_known"] == pytest.approx(min(by_known, default=1.0))
    assert found["fpr_at_95tpr_unknown"] == pytest.approx(min(by_unknown, default=1.0))


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(
    ("kind", "size"), [("continuous", (60, 45)), ("separated", (150, 10)), ("tied", (9, 40))]
)
def test_every_interval_follows_from_its_replicates(kind, size, grouped):
    drawn = sample(kind, 3, *size)
    groups = Groups(np.arange(size[0]) // 3, 1000 + np.arange(size[1]) // 2) if grouped else None
    accepted = count_accepted(*drawn)
    units, upper = Units.of(accepted, groups), upper_estimates(accepted, Units.of(accepted, groups))
    common = {"replicates": 40, "seed": 3, "groups": groups}
    replicates = bootstrap_replicates(*drawn, **common)
    for name, found in bootstrap_intervals(*drawn, confidence=0.8, **common).items():
        check(name, found, replicates[name], units, accepted, upper.get(name))


@pytest.mark.parametrize("grouped", [False, True])
def test_every_interval_of_known_images_follows_from_its_replicates(grouped):
    known, correct, _ = sample("continuous", 4, 90)
    correct |= known < 0
    groups = Groups(np.arange(90) // 3, np.arange(0)) if grouped else None
    accepted, common = count_known(known, correct), {"replicates": 40, "seed": 3, "groups": groups}
    table = resample(
        known,
        correct,
        [],
        statistic=lambda drawn: list(risk_metrics(drawn).values()),
        num_threads=1,
        **common,
    )
    found = known_risk_intervals(known, correct, confidence=0.8, **common)
    assert list(found) == list(RISKS)
    for name, replicates in zip(RISKS, table.T, strict=True):
        assert found[name].estimate == risk_metrics(accepted)[name]
        check(name, found[name], replicates, Units.of(accepted, groups), accepted, None)


def check(name, found, replicates, units, accepted, above):
    spread = np.std(replicates, ddof=1)
    low, high = ends_of(name, found.estimate, spread**2, units, 0.8, above)
    if name == "coverage_at_5_risk":  # which jumps: its percentiles, too, and what is surely kept
        low = min(
            low, np.quantile(replicates, 0.1), least_coverage(accepted, units, risk=0.05, confidence=0.8)
        )
        high = max(high, np.quantile(replicates, 0.9))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9), name
    assert (found.spread, found.n) == (pytest.approx(spread), 40)


# ---- numbers without replicates


@pytest.mark.parametrize("theta", [-9.0, 0.5, 9.0])
@pytest.mark.parametrize("prevalence", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_of_a_cost_is_that_of_two_strata(theta, prevalence, grouped):
    known, correct, unknown = sample("continuous", 5)
    groups = Groups(np.arange(40) // 4, 8 + np.arange(30) // 3) if grouped else None  # two are of both sides
    of_known = np.where(known <= theta, np.where(correct, 0, 2), 0.5) / 5
    of_unknown = np.where(unknown <= theta, 5, 0.1) / 5
    mean = (1 - prevalence) * of_known.mean() + prevalence * of_unknown.mean()
    away = np.r_[
        (1 - prevalence) * (of_known - of_known.mean()) / 40,
        prevalence * (of_unknown - of_unknown.mean()) / 30,
    ]
    units, images = (40, 30), 0
    if groups:
        numbers = np.r_[groups.known, groups.unknown]
        away = np.array([away[numbers == number].sum() for number in range(18)])
        units, images = (10, 10), 30
    behind = 1 / ((1 - prevalence) ** 2 / units[0] + prevalence**2 / units[1])
    ends = beta_ends(mean, size_of(mean, (away**2).sum(), behind, 1.0, images), 0.25, 0.9)
    found = expected_cost(
        known <= theta, correct, unknown <= theta, COSTS, prevalence=prevalence, confidence=0.9, groups=groups
    )
    assert found == pytest.approx([5 * value for value in (mean, *ends)])


@pytest.mark.parametrize("hits", [[True] * 12, [False] * 12, [True, False, True] * 4])
def test_the_interval_of_a_share_of_groups(hits):
    hits, groups = np.array(hits), np.array([7] * 5 + [2] * 4 + [3] * 3)
    value, size = hits.mean(), 12
    assert share_with_ends(hits, confidence=0.9) == pytest.approx((value, *beta_ends(value, 12, 0.25, 0.9)))
    sums = np.array([(hits - value)[groups == number].sum() for number in (2, 3, 7)])
    units = 12**2 / (25 + 16 + 9)
    size = size_of(value, (sums**2).sum() / 12**2, units, 1.0, 12)
    found = share_with_ends(hits, confidence=0.9, groups=groups)
    assert found == pytest.approx((value, *beta_ends(value, size, 0.25, 0.9)))


@pytest.mark.parametrize("values", [[0.5, 0.9, 1.0], [1.0, 1.0], [0.0, 0.2], [0.3, 0.3, 0.3]])
def test_the_interval_of_a_mean_over_classes(values):
    mean = np.mean(values)
    size = size_of(mean, np.var(values) / len(values), len(values), 0.5)
    found = class_mean_with_ends(values, confidence=0.9)
    assert found == pytest.approx((mean, *beta_ends(mean, size, 0.25, 0.9)))
