"""osr.metrics.thresholds against a plain scan over all candidate thresholds."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osr.errors import InputError
from osr.metrics.thresholds import (
    Threshold,
    checked_scores,
    conformal_p_values,
    count_accepted,
    fewest_images,
    fit_background_threshold,
    fit_threshold,
    rejection_name,
    required_count,
)

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
    assert (fitted.num_images, fitted.target) == (len(scores), percent / 100)


def test_hand_computed():
    twenty = np.arange(20.0)
    assert fit_threshold(twenty, target_acceptance=0.95) == Threshold(18.0, "acceptance", 0.95, 0.95, 20)
    assert fit_threshold(twenty, target_acceptance=0.951) == Threshold(19.0, "acceptance", 0.951, 1.0, 20)
    assert fit_threshold([5.0, 1.0, 5.0, 5.0], target_acceptance=0.5) == Threshold(
        5.0, "acceptance", 0.5, 1.0, 4
    )


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


@pytest.mark.parametrize("per_mille", [*range(1, 1000, 7), 10, 500, 900, 950, 990, 999])
def test_fewest_images_is_whole_number_arithmetic(per_mille):
    enough = (count for count in range(1, 1001) if per_mille * (count + 1) <= 1000 * count)
    assert fewest_images(per_mille / 1000) == next(enough)


def test_a_million_images_are_counted_in_four_bytes_each():
    counts = count_accepted(np.arange(100.0), np.arange(100) % 2 > 0, np.arange(50.0))
    assert {counts.known.dtype, counts.correct.dtype, counts.unknown.dtype} == {np.dtype(np.int32)}


def test_conformal_by_hand():
    # 0.9 of 9 + 1 images is the 9th of 9; of 19 + 1 the 18th.
    assert fit_threshold(np.arange(9.0), target_acceptance=0.9, conformal=True).value == 8
    fitted = fit_threshold(np.arange(19.0), target_acceptance=0.9, conformal=True)
    assert fitted == Threshold(17.0, "conformal", 0.9, 18 / 19, 19)
    with pytest.raises(InputError, match="cannot be made from 8 validation images"):
        fit_threshold(np.arange(8.0), target_acceptance=0.9, conformal=True)
    p_values = conformal_p_values([1.0, 2.0, 2.0, 3.0], [0.0, 2.0, 3.0, 3.5, -np.inf, np.inf])
    np.testing.assert_allclose(p_values, [1, 4 / 5, 2 / 5, 1 / 5, 1, 1 / 5])
    assert conformal_p_values([1.0], []).shape == (0,)


@settings(deadline=None)
@given(SCORES, SCORES, st.integers(1, 99))
def test_the_conformal_threshold_and_the_p_values_agree(validation, tested, percent):
    alpha = (100 - percent) / 100
    try:
        theta = fit_threshold(validation, target_acceptance=percent / 100, conformal=True).value
    except InputError:
        assert 1 / (len(validation) + 1) > alpha * (1 - 1e-9)
        return
    rejected = np.array(tested) > theta
    p_values = conformal_p_values(validation, tested)
    np.testing.assert_array_equal(rejected, p_values <= alpha * (1 + 1e-9))


@pytest.mark.parametrize("num_images", [19, 30, 100])
@pytest.mark.parametrize("ties", [False, True])
def test_the_guarantee_holds_in_simulation(num_images, ties):
    """20,000 draws of n validation images and one new known image, of one skewed distribution."""
    rng = np.random.default_rng(0)
    drawn = rng.exponential(size=(20_000, num_images + 1)) ** 3
    drawn = np.round(drawn) if ties else drawn
    validation, new = drawn[:, :-1], drawn[:, -1]
    p_values = (1 + (validation >= new[:, None]).sum(axis=1)) / (num_images + 1)
    some = range(0, 20_000, 200)
    for row in some:
        assert conformal_p_values(validation[row], new[row : row + 1])[0] == p_values[row]
    for alpha in (0.05, 0.1, 0.5):
        assert np.mean(p_values <= alpha) <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / 20_000)
    thetas = np.sort(validation, axis=1)[:, required_count(0.9, num_images + 1) - 1]
    for row in some:
        fitted = fit_threshold(validation[row], target_acceptance=0.9, conformal=True)
        assert fitted.value == thetas[row]
    accepted = np.mean(new <= thetas)
    assert accepted >= 0.9 - 4 * math.sqrt(0.09 / 20_000)
    if not ties:  # without ties not much more than promised: below target + 1 / (n + 1)
        assert accepted <= 0.9 + 1 / (num_images + 1) + 4 * math.sqrt(0.09 / 20_000)


def test_the_plain_rule_promises_less_than_the_conformal_one():
    drawn = np.sort(np.random.default_rng(1).normal(size=(20_000, 10)), axis=1)
    new = np.random.default_rng(2).normal(size=20_000)
    plain = np.mean(new <= drawn[:, required_count(0.9, 10) - 1])
    assert plain == pytest.approx(9 / 11, abs=0.01)


def test_background_by_hand():
    known, others = np.arange(10.0), [3.5, 5.0, 5.0, 7.0, 20.0]
    fitted = fit_background_threshold(known, others, target_false_acceptance=0.2)
    assert fitted.value == np.nextafter(5, -np.inf)
    assert (fitted.acceptance, fitted.false_acceptance) == (0.5, 0.2)
    assert (fitted.rule, fitted.num_images, fitted.num_background) == ("background", 10, 5)
    assert fit_background_threshold(known, others, target_false_acceptance=0.5).false_acceptance == 0.2
    assert fit_background_threshold(known, others, target_false_acceptance=0.6).false_acceptance == 0.6
    assert fit_background_threshold(known, others, target_false_acceptance=0.0).false_acceptance == 0
    with pytest.raises(InputError, match="background images must be a non-empty"):
        fit_background_threshold(known, [], target_false_acceptance=0.1)
    with pytest.raises(InputError, match="at least 0 and below 1, not 1"):
        fit_background_threshold(known, others, target_false_acceptance=1)


@settings(deadline=None)
@given(SCORES, st.integers(0, 99))
def test_largest_theta_that_accepts_few_background_images(scores, percent):
    values = np.array(scores)
    fitted = fit_background_threshold([0.0], values, target_false_acceptance=percent / 100)
    assert 100 * np.count_nonzero(values <= fitted.value) <= percent * len(values) or fitted.value == -np.inf
    above = math.nextafter(fitted.value, math.inf)
    assert 100 * np.count_nonzero(values <= above) > percent * len(values) or above == np.inf


@pytest.mark.parametrize(("acceptance", "name"), [(0.95, "95"), (0.7, "70"), (0.995, "99.5")])
def test_what_is_rejected_is_named_by_the_percent_of_knowns_accepted(acceptance, name):
    assert rejection_name(acceptance) == f"rejection_accepting_{name}"
