"""osr.metrics.statistics against scipy's distributions, exact coverage and replicates worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from osr.errors import InputError
from osr.metrics.statistics import Shape, effective_size, percentile_interval, share_ends, t_interval


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_t_interval_against_scipy(n, confidence):
    values = np.random.default_rng(0).normal(size=n)
    found = t_interval(values, confidence=confidence)
    low, high = stats.t.interval(confidence, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-10)
    assert (found.estimate, found.spread, found.n) == (pytest.approx(values.mean()), values.std(ddof=1), n)


def test_percentile_interval_of_known_replicates():
    found = percentile_interval(np.arange(101.0), estimate=50.0, confidence=0.9)
    assert (found.low, found.high, found.n) == (pytest.approx(5), pytest.approx(95), 101)
    assert (found.estimate, found.spread) == (50, pytest.approx(np.arange(101).std(ddof=1)))
    with pytest.raises(InputError, match=r"a vector of at least 2 replicates, not one of shape \(1,\)"):
        percentile_interval([1.0], estimate=1.0, confidence=0.9)
    with pytest.raises(InputError, match=r"finite replicates; there are \[inf\] among them"):
        percentile_interval([1.0, math.inf], estimate=1.0, confidence=0.9)


@pytest.mark.parametrize(
    ("values", "message"), [([1.0], "at least 2 trials"), ([1.0, math.nan], "finite trials")]
)
def test_bad_trials(values, message):
    with pytest.raises(InputError, match=message):
        t_interval(values, confidence=0.95)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_share_ends_without_and_with_continuity(size):
    counts = np.arange(size + 1)
    low, high = share_ends(counts / size, size, confidence=0.9, shape=Shape(continuity=0.0))
    for count in counts:  # Clopper and Pearson (1934)
        exact = stats.binomtest(int(count), size).proportion_ci(0.9, method="exact")
        assert (low[count], high[count]) == pytest.approx((exact.low, exact.high))
    low, high = share_ends(counts / size, size, confidence=0.9, shape=Shape(continuity=0.5))
    inner = counts[1:-1]  # Jeffreys; at the ends 0 and 1 are held
    np.testing.assert_allclose(low[1:-1], stats.beta.ppf(0.05, inner + 0.5, size - inner + 0.5))
    np.testing.assert_allclose(high[1:-1], stats.beta.ppf(0.95, inner + 0.5, size - inner + 0.5))
    assert (low[0], high[-1]) == (0, 1)


@pytest.mark.parametrize("size", [5, 20, 50, 500])
@pytest.mark.parametrize("share", [0.002, 0.01, 0.1, 0.25, 0.75, 0.9, 0.97, 0.99, 0.998, 1.0])
def test_a_share_is_covered_exactly(size, share):
    counts = np.arange(size + 1)
    low, high = share_ends(counts / size, size, confidence=0.95, shape=Shape())
    holds = (low <= share) & (share <= high)
    chances = stats.binom.pmf(counts, size, share)
    assert chances[holds].sum() >= 0.94


NEARER = {(0.9, 20), (0.97, 50)}  # the only cells where another interval could come below 98 %


@pytest.mark.parametrize("size", [5, 20, 50, 500])
@pytest.mark.parametrize("share", [0.75, 0.9, 0.97, 0.99, 0.998])
def test_where_a_share_is_covered_too_often_no_interval_can_help(size, share):
    """An interval whose ends rise with the count holds a share for neighbouring counts: all sets of these."""
    counts = np.arange(size + 1)
    chances = stats.binom.pmf(counts, size, share)
    below = np.concatenate(([0], chances.cumsum()))
    reached = below[None, 1:] - below[:-1, None]
    low, high = share_ends(counts / size, size, confidence=0.95, shape=Shape())
    ours = chances[(low <= share) & (share <= high)].sum()
    if ours < 0.9805:
        assert ours >= 0.93
    else:
        assert ((reached >= 0.93) & (reached <= 0.98)).any() == ((share, size) in NEARER)


def test_effective_size_by_hand():
    # 10 images, share 0.8, replicates that vary twice as much as a share of 10: 0.8 * 0.2 / 10 * 2 * 9 / 10
    variance = 0.8 * 0.2 / 10 * 2 * 0.9
    # the 2 errors seen and the 2 expected ones: a design effect of (2 * 2 + 2 * 1) / 4
    assert effective_size(0.8, variance, units=10, expected=1.0) == pytest.approx(10 / 1.5)
    # none seen: what is expected
    assert effective_size(1.0, 0.0, units=10, expected=0.5) == pytest.approx(20)
    # 10 groups of 100 images that turn out to be independent: 20 errors, a design effect of 0.1 and one of 1
    variance = 0.8 * 0.2 / 100 * 0.9
    assert effective_size(0.8, variance, units=10, expected=1.0, images=100) == pytest.approx(10 / (4 / 22))
    many = effective_size([0.8, 1.0], [20 * variance, 0.0], units=10, expected=1.0)
    np.testing.assert_allclose(many, [10 / 1.5, 10])


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan])
def test_bad_confidence(confidence):
    with pytest.raises(InputError, match="confidence must lie between"):
        share_ends(0.5, 10, confidence=confidence, shape=Shape())
