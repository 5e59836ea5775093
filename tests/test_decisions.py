"""osr.metrics.decisions counted image by image, against scikit-learn, and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn import metrics as sk

from osr.errors import InputError
from osr.metrics.decisions import closed_set_metrics, confusion_matrix, operating_point

SCORES = st.lists(
    st.sampled_from((-math.inf, -1.0, -0.0, 0.0, 0.5, 1e300, math.inf)), min_size=1, max_size=40
)


@settings(deadline=None)
@given(SCORES, SCORES, st.integers(0, 79), st.integers(0, 1000))
def test_operating_points_on_drawn_samples(known, unknown, position, seed):
    """Counted image by image, at a threshold that is one of the scores."""
    known, unknown = np.array(known), np.array(unknown)
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
