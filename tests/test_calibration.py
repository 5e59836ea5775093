"""osr.calibration: temperatures against scipy's minimiser over a float64 log-softmax; bins by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from osr.calibration import probabilities as calibration
from osr.calibration.probabilities import fit_temperature, probability_quality
from osr.calibration.reliability import Reliability, reliability
from osr.errors import InputError

BRACKET = {"min_temperature": 0.01, "max_temperature": 100.0}


def drawn_from_softmax(temperature, num_images=4000, num_classes=10, spread=2.0, seed=0):
    """Logits whose right temperature is about `temperature`: labels follow softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    clean = spread * rng.normal(size=(num_images, num_classes))
    labels = (softmax(clean, axis=1).cumsum(axis=1) > rng.random((num_images, 1))).argmax(axis=1)
    return clean * temperature, labels


def nll(logits, labels, temperature):
    rows = np.arange(len(logits))
    return -log_softmax(logits.astype(np.float64) / temperature, axis=1)[rows, labels].mean()


def scipy_temperature(logits, labels):
    found = minimize_scalar(
        lambda x: nll(logits, labels, math.exp(x)),
        bounds=(math.log(0.01), math.log(100)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return math.exp(found.x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [0.02, 0.5, 1.0, 2.447, 30.0])
def test_scipy_agrees(temperature, dtype):
    logits, labels = drawn_from_softmax(temperature)
    logits = logits.astype(dtype)
    before = logits.copy()
    fit = fit_temperature(logits, labels, **BRACKET)
    np.testing.assert_array_equal(logits, before)
    assert fit.temperature == pytest.approx(scipy_temperature(logits, labels), rel=1e-5, abs=1e-5)
    assert fit.nll_before == pytest.approx(nll(logits, labels, 1.0), rel=1e-5)
    assert fit.nll_after == pytest.approx(nll(logits, labels, fit.temperature), rel=1e-5)
    assert not fit.at_bound


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(2, 5), st.floats(0.01, 300), st.integers(0, 10_000))
def test_any_small_set_reaches_the_minimum_or_says_so(num_images, num_classes, scale, seed):
    rng = np.random.default_rng(seed)
    logits, labels = (
        scale * rng.normal(size=(num_images, num_classes)),
        rng.integers(num_classes, size=num_images),
    )
    fit = fit_temperature(logits, labels, **BRACKET)
    best = min(nll(logits, labels, t) for t in np.geomspace(0.01, 100, 400))
    assert nll(logits, labels, fit.temperature) <= best + 1e-9 * max(1, best)
    assert fit.nll_after <= fit.nll_before
    assert 0.01 * (1 - 1e-9) <= fit.temperature <= 100 * (1 + 1e-9)
    assert fit.at_bound == any(math.isclose(fit.temperature, end) for end in (0.01, 100))


def test_a_first_rows_search_that_misleads_does_not_matter():
    # Every row that the pilot search sees is right by far; the rows between are wrong by as much.
    logits = np.tile([[20.0, 0.0]], (8000, 1))
    labels = (np.arange(8000) % 4 == 1).astype(int)
    fit = fit_temperature(logits, labels, **BRACKET)
    assert fit.temperature == pytest.approx(20 / math.log(3), rel=1e-5)  # softmax must say 3 to 1
    assert not fit.at_bound


@pytest.mark.parametrize("seed", range(20))
def test_calibrated_logits_stay_and_their_nll_does_not_rise(seed):
    logits, labels = drawn_from_softmax(3.0, num_images=300, seed=seed)
    right = fit_temperature(logits, labels, **BRACKET).temperature
    fit = fit_temperature((logits / right).astype(np.float32), labels, **BRACKET)
    assert fit.temperature == pytest.approx(1, abs=1e-5)
    assert fit.nll_after <= fit.nll_before


def test_far_ends_are_reached_in_few_passes(monkeypatch):
    passes = []
    nll_slope = calibration._nll_slope
    monkeypatch.setattr(calibration, "_nll_slope", lambda *args: passes.append(args) or nll_slope(*args))
    for scale in (0.3, 5.0, 100.0, 1e4, -5.0):
        passes.clear()
        assert fit_temperature(scale * np.eye(3), [0, 1, 2], **BRACKET).at_bound
        assert len(passes) == 4  # temperature 1, both ends, the end again on all images


def test_an_end_that_only_the_whole_set_asks_for_is_reached_exactly():
    labels = np.zeros(4000, int)
    labels[0:1980:2] = (
        1  # 990 of the 2000 rows that the first search sees are wrong: b = log(1010 / 990) = 0.02
    )
    labels[1:2020:2] = 1  # 1010 of the others: b = 0
    fit = fit_temperature(np.tile([[1.0, 0.0]], (4000, 1)), labels, **BRACKET)
    assert fit.temperature == pytest.approx(100, rel=1e-12)
    assert fit.at_bound


def test_a_single_error_among_many_takes_few_passes(monkeypatch):
    passes = []
    nll_slope = calibration._nll_slope
    monkeypatch.setattr(calibration, "_nll_slope", lambda *args: passes.append(args) or nll_slope(*args))
    logits, labels = np.tile([[0.5, 0.0]], (1500, 1)), np.repeat([0, 1], [1499, 1])
    fit = fit_temperature(logits, labels, **BRACKET)
    assert fit.temperature == pytest.approx(0.5 / math.log(1499), rel=1e-5)
    assert len(passes) <= 25


def test_separated_images_end_at_the_lower_bound():
    fit = fit_temperature(5 * np.eye(3), [0, 1, 2], **BRACKET)
    assert fit.temperature == pytest.approx(0.01)
    assert fit.at_bound
    assert fit.nll_after == pytest.approx(0, abs=1e-12)


def test_logits_that_are_always_wrong_end_at_the_upper_bound():
    fit = fit_temperature(5 * np.eye(2), [1, 0], **BRACKET)
    assert fit.temperature == pytest.approx(100)
    assert fit.at_bound


def test_flat_logits_keep_temperature_1():
    fit = fit_temperature(np.full((4, 3), 7.0), [0, 1, 2, 0], **BRACKET)
    assert (fit.temperature, fit.at_bound) == (1.0, False)
    assert fit.nll_before == fit.nll_after == pytest.approx(math.log(3))


def test_huge_logits_do_not_overflow():
    fit = fit_temperature(np.array([[1e30, 0.0], [1e30, 0.0]], np.float32), [0, 0], **BRACKET)
    assert fit.nll_before == fit.nll_after == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, -1]}, "labels must be known classes 0..1, but span -1..0"),
        ({"labels": [0, -2]}, "known classes"),
        ({"labels": [0, 2]}, "known classes 0..1"),
        ({"labels": [0]}, "labels must be 2 whole numbers"),
        ({"logits": np.array([[0.0, math.nan], [0.0, 1.0]])}, "finite"),
        ({"logits": np.array([[0.0, -math.inf], [0.0, 1.0]])}, "finite"),
        ({"logits": np.zeros((0, 2)), "labels": np.zeros(0, int)}, "floats"),
        ({"logits": np.eye(2, dtype=int)}, "floats"),
        ({"min_temperature": 0.0}, "bracket"),
        ({"min_temperature": 2.0}, "bracket"),
        ({"max_temperature": math.inf}, "bracket"),
    ],
)
def test_bad_input(change, message):
    good = {"logits": np.eye(2), "labels": [0, 1], **BRACKET}
    with pytest.raises(InputError, match=message):
        fit_temperature(**(good | change))


def test_hand_computed_reliability():
    """Bins (0, 1/2] and (1/2, 1]: half goes into the lower one, and nothing is lost at 0 or 1."""
    table = Reliability.of([0.0, 0.5, 0.6, 0.99, 1.0], [False, True, False, True, True], bins=2)
    np.testing.assert_array_equal(table.count, [2, 3])
    np.testing.assert_allclose(table.confidence, [0.5 / 2, (0.6 + 0.99 + 1) / 3])
    np.testing.assert_allclose(table.accuracy, [1 / 2, 2 / 3])
    assert table.ece() == pytest.approx((abs(0.5 / 2 - 1 / 2) * 2 + abs(2.59 / 3 - 2 / 3) * 3) / 5)


@pytest.mark.parametrize("bins", [1, 2, 3, 7, 10, 15, 49, 100])
def test_an_edge_belongs_to_the_bin_below_it(bins):
    """As in Guo et al. 2017 and Naeini et al. 2015."""
    edges = np.arange(1, bins + 1) / bins
    just_above = np.append(0.0, np.nextafter(edges[:-1], 1))
    for confidence in (edges, just_above):
        np.testing.assert_array_equal(Reliability.of(confidence, confidence > 0, bins=bins).count, 1)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_half_precision_logits_are_not_computed_with_in_half(temperature):
    half = (40 * np.random.default_rng(0).normal(size=(300, 1000))).astype(np.float16)
    labels = half.argmax(axis=1)
    labels[::3] = 0
    found, expected = (
        probability_quality(logits, labels, temperature) for logits in (half, half.astype(np.float64))
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    fits = [fit_temperature(logits, labels, **BRACKET) for logits in (half, half.astype(np.float32))]
    assert fits[0] == fits[1]


def test_a_confidence_of_1_counts_and_empty_bins_are_nan():
    table = Reliability.of(np.ones(3), np.array([True, False, False]), bins=15)
    assert table.count[-1] == table.count.sum() == 3
    assert np.isnan(table.accuracy[:-1]).all()
    assert table.ece() == pytest.approx(2 / 3)


def test_reliability_of_logits():
    logits, labels = drawn_from_softmax(3.0, num_images=500)
    table = reliability(logits, labels, temperature=3.0, bins=10)
    confidence = softmax(logits / 3.0, axis=1).max(axis=1)
    expected = Reliability.of(confidence, logits.argmax(axis=1) == labels, bins=10)
    np.testing.assert_allclose(table.confidence, expected.confidence)
    np.testing.assert_array_equal(table.count, expected.count)
    assert table.ece() < reliability(logits, labels, temperature=1.0, bins=10).ece()


@pytest.mark.parametrize(
    ("confidence", "correct", "bins", "message"),
    [
        ([1.1], [True], 15, "0..1"),
        ([math.nan], [True], 15, "0..1"),
        ([], [], 15, "vectors"),
        ([0.5], [True, False], 15, "vectors"),
        ([0.5], [True], 0, "at least 1 bin"),
    ],
)
def test_bad_reliability(confidence, correct, bins, message):
    with pytest.raises(InputError, match=message):
        Reliability.of(confidence, correct, bins=bins)
