"""When the report warns that a threshold misses what was asked of it."""

import math

import numpy as np
import pytest

from osr.metrics.thresholds import Threshold
from pipeline.report import cautions
from pipeline.report.cautions import acceptance_bounds


@pytest.mark.parametrize(
    ("rule", "low", "high", "off"),
    [
        ("acceptance", 0.90, 0.94, True),
        ("acceptance", 0.96, 0.99, True),
        ("acceptance", 0.90, 0.95, False),
        ("conformal", 0.96, 0.99, False),  # at least 95 % was asked
        ("conformal", 0.90, 0.94, True),
        ("background", 0.10, 0.20, False),
    ],
)
def test_an_interval_that_excludes_what_was_asked(rule, low, high, off):
    fit = Threshold(value=0.0, rule=rule, target=0.95, acceptance=0.95, num_images=100)
    assert cautions.is_off(fit, low, high) == off


def test_acceptance_bounds_hold_what_chance_makes():
    """Of thresholds made from images of the same kind, about as many lie outside as the confidence says."""
    generator = np.random.default_rng(0)
    outside = 0
    for _ in range(2000):
        validation, test = np.sort(generator.normal(size=300)), generator.normal(size=500)
        accepted = (test <= validation[284]).mean()  # the 285th of 300: 95 %
        low, high = acceptance_bounds(0.95, num_validation=300, num_test=500, confidence=0.9)
        outside += not low <= accepted <= high
    assert 0.03 < outside / 2000 < 0.1
    low, high = acceptance_bounds(0.95, num_validation=10**6, num_test=10**4, confidence=0.95)
    assert low == pytest.approx(0.95 - 1.96 * math.sqrt(0.95 * 0.05 / 1e4), abs=1e-4)
    assert acceptance_bounds(1.0, num_validation=10, num_test=10, confidence=0.95)[1] == 1
