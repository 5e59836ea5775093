"""osr.metrics against brute force over the definitions, scikit-learn, and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn import metrics as sk

from osr import metrics, thresholds
from osr.errors import InputError
from osr.metrics import (
    ccr_at_fpr,
    closed_set_metrics,
    confusion_matrix,
    curves,
    metrics_of,
    open_set_metrics,
    openness,
    operating_point,
    oracle_threshold,
)
from osr.thresholds import count_accepted

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


@settings(deadline=None)
@given(samples(), st.integers(0, 79), st.integers(0, 1000))
def test_operating_points_on_drawn_samples(drawn, position, seed):
    """Counted image by image, at a threshold that is one of the scores."""
    known, _, unknown = drawn
    rng = np.random.default_rng(seed)
    both = np.concatenate((known, unknown))
    threshold = float(both[position % len(both)])
    truth = rng.integers(3, size=len(known))
    guesses, others = rng.integers(3, size=len(known)), rng.integers(3, size=len(unknown))
    expected = np.zeros((4, 4), dtype=int)
    for score, label, guess in zip(both, [*truth, *[3] * len(unknown)], [*guesses, *others], strict=True):
        expected[label, guess if score <= threshold else 3] += 1
    arrays = [known, truth, guesses, unknown, others]
    copies = [array.copy() for array in arrays]
    matrix = confusion_matrix(
        threshold,
        known,
        known_labels=truth,
        known_predictions=guesses,
        unknown_scores=unknown,
        unknown_predictions=others,
        num_classes=3,
    )
    np.testing.assert_array_equal(matrix, expected)
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    point = operating_point(matrix)
    assert point["known_acceptance"] == pytest.approx((known <= threshold).mean(), abs=1e-13)
    assert point["unknown_rejection"] == pytest.approx((unknown > threshold).mean(), abs=1e-13)
    right = (truth == guesses) & (known <= threshold)
    hits = right.sum() + (unknown > threshold).sum()
    assert point["kplus1_accuracy"] == pytest.approx(hits / len(both), abs=1e-13)
    verdicts = [*np.where(known <= threshold, guesses, 3), *np.where(unknown <= threshold, others, 3)]
    f1 = sk.f1_score([*truth, *[3] * len(unknown)], verdicts, average="macro", zero_division=0)
    assert point["kplus1_macro_f1"] == pytest.approx(f1, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_over_several_windows_are_those_of_one(kind, monkeypatch):
    drawn = sample(kind, 3)
    whole = open_set_metrics(*drawn)
    monkeypatch.setattr(metrics, "WINDOW", 7)
    monkeypatch.setattr(thresholds, "WINDOW", 7)
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


def test_macro_f1_leaves_out_a_class_that_nobody_saw():
    confusion = np.array([[8, 0, 2], [0, 0, 0], [1, 0, 4]])
    f1 = operating_point(confusion)["kplus1_macro_f1"]
    assert f1 == pytest.approx((2 * 8 / (10 + 9) + 2 * 4 / (5 + 6)) / 2)


def test_operating_point_against_scikit_learn():
    rng = np.random.default_rng(6)
    labels, predictions, strange = (
        rng.integers(4, size=200),
        rng.integers(4, size=200),
        rng.integers(4, size=90),
    )
    predictions[:150] = labels[:150]
    known, unknown, theta = rng.normal(size=200), rng.normal(size=90) + 1, 0.5
    confusion = confusion_matrix(
        theta,
        known,
        known_labels=labels,
        known_predictions=predictions,
        unknown_scores=unknown,
        unknown_predictions=strange,
        num_classes=4,
    )
    truth = np.concatenate((labels, np.full(90, 4)))
    verdict = np.concatenate(
        (np.where(known <= theta, predictions, 4), np.where(unknown <= theta, strange, 4))
    )
    np.testing.assert_array_equal(confusion, sk.confusion_matrix(truth, verdict))
    assert confusion.dtype == np.int64
    point = operating_point(confusion)
    assert point["known_acceptance"] == pytest.approx(np.mean(known <= theta))
    assert point["unknown_rejection"] == pytest.approx(np.mean(unknown > theta))
    assert point["kplus1_accuracy"] == pytest.approx(sk.accuracy_score(truth, verdict))
    assert point["kplus1_macro_f1"] == pytest.approx(sk.f1_score(truth, verdict, average="macro"))


def test_a_score_at_the_threshold_is_accepted():
    confusion = confusion_matrix(
        1.0,
        [1.0, 1.5],
        known_labels=[0, 0],
        known_predictions=[0, 0],
        unknown_scores=[1.0],
        unknown_predictions=[0],
        num_classes=1,
    )
    np.testing.assert_array_equal(confusion, [[1, 1], [1, 0]])


def test_openness():
    assert openness(10, 0) == 0
    assert openness(4, 10) == pytest.approx(1 - math.sqrt(8 / 18))
    with pytest.raises(InputError, match="at least 1 known class"):
        openness(0, 3)


def sample_logits(dtype=np.float64):
    rng = np.random.default_rng(7)
    labels = np.append(rng.integers(5, size=300), 3)
    logits = 3 * rng.normal(size=(301, 6)) + 3 * np.eye(6)[labels]  # class 5 has no image
    return logits.astype(dtype), labels


@pytest.mark.parametrize("temperature", [1.0, 0.2, 3.5])
def test_closed_set_against_scikit_learn(temperature):
    logits, labels = sample_logits()
    ours = closed_set_metrics(logits, labels, temperature=temperature, bins=15)
    predictions = logits.argmax(axis=1)
    probabilities = softmax(logits / temperature, axis=1)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(labels, predictions))
    recalls = [np.mean(predictions[labels == label] == label) for label in range(5)]
    assert ours["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert ours["macro_f1"] == pytest.approx(sk.f1_score(labels, predictions, average="macro"))
    assert ours["nll"] == pytest.approx(-log_softmax(logits / temperature, axis=1)[range(301), labels].mean())
    assert ours["brier"] == pytest.approx(np.mean(np.sum((probabilities - np.eye(6)[labels]) ** 2, axis=1)))
    confidence, error = probabilities.max(axis=1), 0.0
    for low in range(15):
        inside = (confidence >= low / 15) & ((confidence < (low + 1) / 15) | (low == 14))
        if inside.any():
            error += abs(np.mean((predictions == labels)[inside]) - confidence[inside].mean()) * inside.mean()
    assert ours["ece"] == pytest.approx(error)


def test_closed_set_in_both_precisions_and_with_huge_logits():
    single = closed_set_metrics(*sample_logits(np.float32), temperature=1.0, bins=15)
    double = closed_set_metrics(*sample_logits(), temperature=1.0, bins=15)
    assert single == pytest.approx(double, abs=1e-5)
    huge = closed_set_metrics(np.array([[2000.0, 0.0], [0.0, 800.0]]), [0, 0], temperature=1.0, bins=15)
    assert huge == pytest.approx(
        {"accuracy": 0.5, "balanced_accuracy": 0.5, "macro_f1": 1 / 3, "nll": 400.0, "brier": 1.0, "ece": 0.5}
    )


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": math.nan}, "threshold must be a number"),
        ({"known_labels": [0, -1]}, "known_labels must be known classes 0..1"),
        ({"unknown_predictions": [2]}, "unknown_predictions must be known classes"),
        ({"known_predictions": [0]}, "known_predictions must be 2 whole numbers"),
        ({"known_labels": [0.0, 1.0]}, "whole numbers"),
    ],
)
def test_bad_operating_points(change, message):
    good = {
        "threshold": 0.0,
        "known_scores": [0.0, 1.0],
        "known_labels": [0, 1],
        "known_predictions": [0, 1],
        "unknown_scores": [1.0],
        "unknown_predictions": [1],
        "num_classes": 2,
    }
    with pytest.raises(InputError, match=message):
        confusion_matrix(**(good | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, -2]}, "labels must be known classes"),
        ({"logits": np.array([[math.inf, 0.0], [0.0, 1.0]])}, "finite"),
        ({"logits": np.array([[math.nan, 0.0], [0.0, 1.0]])}, "finite"),
        ({"logits": np.zeros((0, 2)), "labels": np.zeros(0, int)}, "floats"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": math.nan}, "temperature must be above 0"),
        ({"bins": 0}, "at least 1 bin"),
    ],
)
def test_bad_closed_sets(change, message):
    good = {"logits": np.eye(2), "labels": [0, 1], "temperature": 1.0, "bins": 15}
    with pytest.raises(InputError, match=message):
        closed_set_metrics(**(good | change))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_metric_keys_suit_mlflow(seed):
    ours = metrics_of(count_accepted(*sample("continuous", seed)))
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789_-./: ")
    assert all(set(key) <= allowed for key in ours)
    assert all(type(value) is float for value in ours.values())
