"""osr.metrics.statistics against scipy's t distribution and replicates worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from osr.errors import InputError
from osr.metrics.statistics import percentile_interval, t_interval


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


@pytest.mark.parametrize(
    ("values", "message"), [([1.0], "at least 2 trials"), ([1.0, math.nan], "finite trials")]
)
def test_bad_trials(values, message):
    with pytest.raises(InputError, match=message):
        t_interval(values, confidence=0.95)
