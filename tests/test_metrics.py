"""osr.metrics.open_set against brute force over the definitions, scikit-learn, and numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from osr.errors import InputError
from osr.metrics import counting
from osr.metrics.open_set import ccr_at_fpr, curves, metrics_of, open_set_metrics, oracle_threshold
from osr.metrics.thresholds import count_accepted
from osr.splits.openness import openness

EXTREME = (-math.inf, -1e300, -1.0, -0.0, 0.0, 5e-324, 1.0, 1e300, math.inf)
KINDS = ("continuous", "tied", "constant", "extreme", "separated", "reversed", "float32")


def sample(kind: str, seed: int, num_known: int = 40, num_unknown: int = 30):
    """Scores of knowns, whether they are classified right, scores of unknowns."""
    rng = np.random.default_rng(seed)
    known, unknown = rng.normal(size=num_known), rng.normal(size=num_unknown) + 0.8
    if kind == "tied":
        known, unknown = np.round(known), np.round(unknown)
    elif kind == "constant":
        known, unknown = np.full(num_known, 3.0), np.full(num_unknown, 3.0)
    elif kind == "extreme":
        known, unknown = rng.choice(EXTREME, num_known), rng.choice(EXTREME, num_unknown)
    elif kind in ("separated", "reversed"):
        unknown = unknown + (100 if kind == "separated" else -100)
    elif kind == "float32":
        known, unknown = known.astype(np.float32), unknown.astype(np.float32)
    return known, rng.random(num_known) < 0.8, unknown


@st.composite
def samples(draw):
    size = st.integers(1, 40)
    return sample(draw(st.sampled_from(KINDS)), draw(st.integers(0, 10_000)), draw(size), draw(size))


def brute_force(known, correct, unknown):
    """The field guide's definitions, one image pair and one threshold at a time."""
    pairs = (unknown[None, :] > known[:, None]) + 0.5 * (unknown[None, :] == known[:, None])
    accepted = [
        (int((known <= theta).sum()), int((correct & (known <= theta)).sum()), int((unknown <= theta).sum()))
        for theta in np.unique(np.concatenate((known, unknown)))
    ]
    rows = [(0, 0, 0), *accepted]
    n_known, n_unknown = len(known), len(unknown)
    result = {
        "auroc": pairs.mean(),
        "auoscr": (pairs * correct[:, None]).mean(),
        "prevalence": n_unknown / (n_known + n_unknown),
        "fpr_at_95tpr_known": min(u for k, _, u in rows if 100 * k >= 95 * n_known) / n_unknown,
        "fpr_at_95tpr_unknown": 1
        - max(k for k, _, u in rows if 100 * (n_unknown - u) >= 95 * n_unknown) / n_known,
    }
    for per_mille, key in ((1, "0.001"), (10, "0.01"), (100, "0.1"), (200, "0.2"), (500, "0.5")):
        reached = [c for _, c, u in rows if 1000 * u <= per_mille * n_unknown]
        possible = per_mille * n_unknown >= 1000
        result[f"ccr_at_fpr_{key}"] = max(reached) / n_known if possible else math.nan
    pure = [u for k, _, u in accepted if 100 * k >= 95 * (k + u)]
    result["u_recall_at_95_seen_precision"] = 1 - pure[-1] / n_unknown if pure else math.nan
    return result


def check_against_brute_force(known, correct, unknown):
    ours, expected = open_set_metrics(known, correct, unknown), brute_force(known, correct, unknown)
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-13, nan_ok=True), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (20, 20), (40, 30), (100, 1000)])
def test_definitions(kind, size):
    check_against_brute_force(*sample(kind, 1, *size))


@settings(deadline=None)
@given(samples())
def test_definitions_on_drawn_samples(drawn):
    check_against_brute_force(*drawn)


@pytest.mark.parametrize("kind", ["continuous", "tied", "constant", "float32", "separated"])
@pytest.mark.parametrize("size", [(40, 30), (3000, 5000)])
def test_scikit_learn_agrees(kind, size):
    known, correct, unknown = sample(kind, 2, *size)
    truth, scores = np.repeat([0, 1], size), np.concatenate((known, unknown))
    ours = open_set_metrics(known, correct, unknown)
    assert ours["auroc"] == pytest.approx(sk.roc_auc_score(truth, scores), abs=1e-12)
    assert ours["aupr_unknown"] == pytest.approx(sk.average_precision_score(truth, scores), abs=1e-12)
    assert ours["aupr_known"] == pytest.approx(sk.average_precision_score(1 - truth, -scores), abs=1e-12)


@settings(deadline=None)
@given(samples())
def test_scikit_learn_agrees_on_drawn_samples(drawn):
    """On ranks, because it refuses infinite scores; ranks keep order and ties, which is all that counts."""
    known, correct, unknown = drawn
    ranks = np.unique(np.concatenate((known, unknown)), return_inverse=True)[1]
    truth = np.repeat([0, 1], (len(known), len(unknown)))
    ours = open_set_metrics(known, correct, unknown)
    assert ours["auroc"] == pytest.approx(sk.roc_auc_score(truth, ranks), abs=1e-12)
    assert ours["aupr_unknown"] == pytest.approx(sk.average_precision_score(truth, ranks), abs=1e-12)
    assert ours["aupr_known"] == pytest.approx(sk.average_precision_score(1 - truth, -ranks), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_over_several_windows_are_those_of_one(kind, monkeypatch):
    drawn = sample(kind, 3)
    whole = open_set_metrics(*drawn)
    monkeypatch.setattr(counting, "ROWS", 7)
    monkeypatch.setattr(counting, "WINDOW", 7)
    parts = open_set_metrics(*drawn)
    assert (parts["auroc"], parts["auoscr"]) == (whole["auroc"], whole["auoscr"])  # whole numbers are summed
    assert parts == pytest.approx(whole, abs=1e-14, nan_ok=True)


def test_hand_computed_oscr():
    known, correct = np.array([1.0, 2.0, 2.0, 4.0]), np.array([True, True, False, True])
    unknown = np.array([2.0, 3.0, 5.0])
    ours = open_set_metrics(known, correct, unknown)
    # of 12 pairs: 1 is below 3 unknowns; each 2 is below 2 and ties with 1; 4 is below 1
    assert ours["auoscr"] == pytest.approx((3 + 2.5 + 1) / 12)
    assert ours["auroc"] == pytest.approx((3 + 2.5 + 2.5 + 1) / 12)
    # rejecting from 5 down: precision 1/1 at 5, (4 adds no unknown), 2/3 at 3, 3/6 at 2
    assert ours["aupr_unknown"] == pytest.approx((1 + 2 / 3 + 3 / 6) / 3)
    # accepting from 1 up: 1/1 at 1, 3/4 at 2 (two images), 4/6 at 4
    assert ours["aupr_known"] == pytest.approx((1 + 2 * 3 / 4 + 4 / 6) / 4)
    assert ours["fpr_at_95tpr_known"] == pytest.approx(2 / 3)  # theta = 4
    assert ours["fpr_at_95tpr_unknown"] == pytest.approx(3 / 4)  # theta just below 2
    assert ours["ccr_at_fpr_0.5"] == pytest.approx(2 / 4)  # theta = 2 accepts 1 of 3 unknowns
    assert math.isnan(ours["ccr_at_fpr_0.2"])
    assert ours["u_recall_at_95_seen_precision"] == 1.0  # theta = 1


def test_scores_outside_0_to_1_are_taken_as_they_are():
    assert open_set_metrics([20.0, 30.0], [True, True], [40.0, 50.0])["auroc"] == 1.0


def test_seen_precision_without_a_threshold_is_nan():
    assert math.isnan(open_set_metrics([1.0], [True], [0.0])["u_recall_at_95_seen_precision"])


def test_seen_precision_counts_exactly_95_percent():
    known, unknown = np.concatenate((np.arange(18.0), [30.0])), np.array([20.0, 40.0])
    assert open_set_metrics(known, np.ones(19, bool), unknown)["u_recall_at_95_seen_precision"] == 0.5


@settings(deadline=None)
@given(samples())
def test_properties(drawn):
    known, correct, unknown = drawn
    copies = [array.copy() for array in drawn]
    ours = open_set_metrics(*drawn)
    for array, copy in zip(drawn, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert ours["auoscr"] <= correct.mean() + 1e-15
    assert all(0 <= value <= 1 for value in ours.values() if not math.isnan(value))
    swap = np.random.default_rng(0)
    order, other = swap.permutation(len(known)), swap.permutation(len(unknown))
    np.testing.assert_equal(open_set_metrics(known[order], correct[order], unknown[other]), ours)
    rank = np.unique(np.concatenate((known, unknown)), return_inverse=True)[1].astype(float)
    rising = rank**3 - 1e5
    np.testing.assert_equal(open_set_metrics(rising[: len(known)], correct, rising[len(known) :]), ours)


@pytest.mark.parametrize("value", [0.0, -7.0, 1e300, math.inf, -math.inf])
def test_equal_scores(value):
    correct = np.array([True, True, False, True])
    ours = open_set_metrics(np.full(4, value), correct, np.full(3, value))
    assert ours["auroc"] == 0.5
    assert ours["auoscr"] == 0.75 / 2
    assert ours["aupr_unknown"] == pytest.approx(3 / 7)
    assert ours["fpr_at_95tpr_known"] == ours["fpr_at_95tpr_unknown"] == 1


def test_auoscr_is_accuracy_times_auroc_when_errors_are_independent_of_the_score():
    known, _, unknown = sample("continuous", 3, 200, 100)
    ours = open_set_metrics(np.repeat(known, 2), np.tile([True, False], 200), unknown)
    assert ours["auoscr"] == pytest.approx(0.5 * ours["auroc"], abs=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_curves_hold_the_metrics(kind):
    drawn = sample(kind, 4, 50, 60)
    points, ours = curves(count_accepted(*drawn)), open_set_metrics(*drawn)
    assert np.trapezoid(points["oscr_ccr"], points["oscr_fpr"]) == pytest.approx(ours["auoscr"], abs=1e-13)
    assert -np.trapezoid(points["roc_tpr"], points["roc_fpr"]) == pytest.approx(ours["auroc"], abs=1e-13)
    steps = -np.diff(points["pr_unknown_recall"])
    assert steps @ points["pr_unknown_precision"][:-1] == pytest.approx(ours["aupr_unknown"], abs=1e-13)
    steps = np.diff(points["pr_known_recall"])
    assert steps @ points["pr_known_precision"][1:] == pytest.approx(ours["aupr_known"], abs=1e-13)
    assert points["pr_unknown_precision"][-1] == points["pr_known_precision"][0] == 1
    assert len({len(values) for values in points.values()}) == 1
    assert points["threshold"][0] == -np.inf, "nothing is accepted there"
    assert (points["threshold"][1:] >= points["threshold"][:-1]).all()
    row = len(points["threshold"]) // 2
    assert points["oscr_fpr"][row] == np.mean(drawn[2] <= points["threshold"][row])
    assert points["roc_fpr"][row] == pytest.approx(np.mean(drawn[0] > points["threshold"][row]))


@pytest.mark.parametrize("kind", KINDS)
def test_oracle_threshold_is_the_best_of_all(kind):
    known, correct, unknown = sample(kind, 5)
    gains = {t: np.mean(known <= t) + np.mean(unknown > t) for t in np.concatenate((known, unknown))}
    best = oracle_threshold(count_accepted(known, correct, unknown))
    assert gains[best] == pytest.approx(max(gains.values()))
    assert best == min(t for t, gain in gains.items() if gain > max(gains.values()) - 1e-12)


def test_oracle_threshold_is_the_smallest_of_equals():
    assert oracle_threshold(count_accepted([0.0, 2.0], [True, True], [1.0, 3.0])) == 0.0
    known, unknown = np.arange(0, 300, 2.0)[:49], np.arange(0, 300, 6.0)[:49] + 3  # 1/49 is no float
    gains = [np.count_nonzero(known <= t) - np.count_nonzero(unknown <= t) for t in range(300)]
    assert oracle_threshold(count_accepted(known, np.ones(49, bool), unknown)) == np.argmax(gains)


def test_ccr_counts_images_in_spite_of_rounding():
    accepted = count_accepted(np.arange(100.0) + 0.5, np.ones(100, bool), np.arange(100.0))
    assert 0.29 * 100 < 29  # the trap
    assert ccr_at_fpr(accepted, 0.29) == 0.29


def test_openness():
    assert openness(10, 0) == 0
    assert openness(4, 10) == pytest.approx(1 - math.sqrt(8 / 18))
    with pytest.raises(InputError, match="at least 1 known class"):
        openness(0, 3)


@pytest.mark.parametrize(
    ("known", "correct", "unknown", "message"),
    [
        ([math.nan, 1.0], [True, True], [1.0], "1 of 2 are NaN"),
        ([1.0], [True], [math.nan], "scores of unknown test images must be numbers"),
        ([], np.zeros(0, bool), [1.0], "non-empty"),
        ([1.0], [True], [], "non-empty"),
        ([[1.0]], [[True]], [1.0], "non-empty vector"),
        ([1.0], [1], [1.0], "known_correct must be 1 booleans"),
        ([1.0, 2.0], [True], [1.0], "known_correct must be 2 booleans"),
        (["a"], [True], [1.0], "real numbers"),
    ],
)
def test_bad_scores(known, correct, unknown, message):
    with pytest.raises(InputError, match=message):
        open_set_metrics(known, correct, unknown)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_metric_keys_suit_mlflow(seed):
    ours = metrics_of(count_accepted(*sample("continuous", seed)))
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789_-./: ")
    assert all(set(key) <= allowed for key in ours)
    assert all(type(value) is float for value in ours.values())
