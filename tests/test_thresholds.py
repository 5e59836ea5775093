"""osr.thresholds against a plain scan over all candidate thresholds."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osr.errors import InputError
from osr.thresholds import Threshold, checked_scores, count_accepted, fit_threshold, required_count

SCORES = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False), st.just(math.inf)),
    min_size=1,
    max_size=60,
)


@settings(deadline=None)
@given(SCORES, st.integers(1, 100))
def test_smallest_theta_that_accepts_enough(scores, percent):
    values = np.array(scores)
    before = values.copy()
    fitted = fit_threshold(values, target_acceptance=percent / 100)
    np.testing.assert_array_equal(values, before)
    enough = [theta for theta in scores if 100 * np.count_nonzero(values <= theta) >= percent * len(scores)]
    assert fitted.value == min(enough)
    assert fitted.acceptance == np.mean(values <= fitted.value)
    assert (fitted.num_images, fitted.target_acceptance) == (len(scores), percent / 100)


def test_hand_computed():
    twenty = np.arange(20.0)
    assert fit_threshold(twenty, target_acceptance=0.95) == Threshold(18.0, 0.95, 0.95, 20)
    assert fit_threshold(twenty, target_acceptance=0.951) == Threshold(19.0, 0.951, 1.0, 20)
    assert fit_threshold([5.0, 1.0, 5.0, 5.0], target_acceptance=0.5) == Threshold(5.0, 0.5, 1.0, 4)


def test_the_stored_threshold_accepts_a_float32_score_that_it_was_made_from():
    scores = np.random.default_rng(0).normal(size=101).astype(np.float32)
    fitted = Threshold(**json.loads(json.dumps(asdict(fit_threshold(scores, target_acceptance=0.95)))))
    assert np.mean(scores <= fitted.value) == fitted.acceptance == 96 / 101


@pytest.mark.parametrize("percent", range(1, 101))
def test_required_count_is_whole_number_arithmetic(percent):
    for count in (1, 7, 20, 100, 12_345, 10**9):
        assert required_count(percent / 100, count) == -(-percent * count // 100)


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        ([], 0.95, "non-empty"),
        ([1.0, math.nan], 0.95, "1 of 2 are NaN"),
        ([[1.0]], 0.95, "vector"),
        ([True], 0.95, "real numbers"),
        ([1.0], 0.0, "target_acceptance must be above 0"),
        ([1.0], 1.5, "at most 1, not 1.5"),
        ([1.0], math.nan, "target_acceptance"),
    ],
)
def test_bad_input(scores, target, message):
    with pytest.raises(InputError, match=message):
        fit_threshold(scores, target_acceptance=target)


def test_whole_number_scores_are_taken():
    assert checked_scores([3, 1], name="scores").dtype == np.float64


def test_counts_of_ties_across_kinds():
    accepted = count_accepted([0.0, 1.0, -0.0], [True, False, False], np.array([1, 2], np.float32))
    np.testing.assert_array_equal(accepted.thresholds, [0, 1, 2])
    np.testing.assert_array_equal(accepted.known, [0, 2, 3, 3])
    np.testing.assert_array_equal(accepted.correct, [0, 1, 1, 1])
    np.testing.assert_array_equal(accepted.unknown, [0, 0, 1, 2])
