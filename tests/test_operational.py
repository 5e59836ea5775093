"""osr.metrics.operational against a scan over all thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from test_metrics import sample

from osr.metrics.operational import open_set_accuracies, open_set_accuracy, operational_threshold
from osr.metrics.thresholds import count_accepted


@pytest.mark.parametrize("kind", ["continuous", "tied", "constant", "separated"])
def test_the_threshold_is_the_smallest_of_the_best(kind):
    scored = known, _, unknown = sample(kind, 1)
    thetas = np.unique(np.concatenate((known, unknown)))
    thetas = np.append(np.nextafter(thetas[0], -np.inf), thetas)
    accuracies = [open_set_accuracy(theta, *scored) for theta in thetas]
    assert open_set_accuracies(count_accepted(*scored)) == pytest.approx(accuracies)
    value, accuracy = operational_threshold(*scored)
    assert accuracy == pytest.approx(max(accuracies))
    assert value == thetas[np.flatnonzero(np.isclose(accuracies, max(accuracies), atol=1e-12))[0]]


def test_both_sides_count_the_same_whatever_their_numbers():
    known, right = np.array([1.0, 2.0, 3.0, 9.0]), np.array([True, False, True, True])
    assert open_set_accuracy(3.0, known, right, [5.0]) == (2 / 4 + 1) / 2
    assert open_set_accuracy(3.0, known, right, [5.0] * 99 + [0.0]) == (2 / 4 + 0.99) / 2
