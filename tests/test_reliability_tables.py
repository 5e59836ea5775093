"""Reliability tables by hand and of logits, and what is no table."""

import math
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from test_calibrators import sample

from osr.calibration.reliability import Reliability, reliability
from osr.errors import InputError


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_table_of_logits_is_scikit_learns_curve(temperature):
    logits, labels = sample(count=500, temperature=2.0)
    table = reliability(logits, labels, temperature=temperature, bins=10)
    confidence, right = softmax(logits / temperature, axis=1).max(1), logits.argmax(1) == labels
    accuracy, mean = calibration_curve(right, confidence, n_bins=10)
    full = table.count > 0
    assert_allclose(table.accuracy[full], accuracy)
    assert_allclose(table.confidence[full], mean)
    assert table.ece() == pytest.approx(np.abs(accuracy - mean) @ table.count[full] / 500)


@pytest.mark.parametrize(("bins", "expected"), [(1, [4]), (2, [2, 2]), (4, [1, 1, 1, 1]), (8, [0, 1] * 4)])
def test_reliability_by_hand(bins, expected):
    confidence, correct = [0.25, 0.5, 0.75, 1.0], [True, False, True, True]
    table = Reliability.of(confidence, correct, bins=bins)
    assert_array_equal(table.count, expected)
    assert table.count.dtype == np.int64
    full = table.count > 0
    assert np.isnan(table.confidence[~full]).all()
    assert np.isnan(table.accuracy[~full]).all()
    gaps = {1: abs(2.5 - 3), 2: abs(0.75 - 1) + abs(1.75 - 2), 4: 0.75 + 0.5 + 0.25, 8: 1.5}[bins]
    assert table.ece() == pytest.approx(gaps / 4)


@pytest.mark.parametrize("confidence", [[-1e-9, 0.5], [0.5, 1 + 1e-9], [0.5, math.nan]])
def test_a_confidence_lies_in_0_to_1(confidence):
    lowest, highest = np.min(confidence), np.max(confidence)
    with pytest.raises(InputError, match=re.escape(f"must lie in 0..1, not {lowest} .. {highest}.")):
        Reliability.of(confidence, [True, False], bins=3)
    with pytest.raises(InputError, match=r"must be vectors \(N,\) alike, not \(1, 2\) and \(2,\)"):
        Reliability.of([[0.5, 0.5]], [True, False], bins=3)
    with pytest.raises(InputError, match=r"must be vectors \(N,\) alike, not \(\) and \(\)"):
        Reliability.of(0.5, True, bins=3)
    with pytest.raises(InputError, match="at least 1 bin, not 0"):
        Reliability.of([0.5], [True], bins=0)
