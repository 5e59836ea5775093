"""osr.metrics.operational against a scan over all thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from test_metrics import sample

from osr.metrics.judged import Judged, operational_metrics
from osr.metrics.operational import open_set_accuracies, open_set_accuracy, operational_threshold
from osr.metrics.thresholds import count_accepted
from osr.outputs import Outputs


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


def test_metrics_by_detector():
    known, right, unknown = sample("continuous", 2)
    logits = np.eye(2, dtype=np.float32)[np.r_[np.where(right, 0, 1), np.zeros(len(unknown), int)]]
    labels = np.r_[np.zeros(len(known), int), np.full(len(unknown), -1)]
    outputs = Outputs(logits, logits, labels, np.arange(len(labels)), logits[:2], logits[0])
    found = operational_metrics(
        {"a": Judged(outputs, np.r_[known, unknown])}, {"a": known[:20]}, right[:20], {"a": unknown[:9]}
    )
    theta, accuracy = operational_threshold(known[:20], right[:20], unknown[:9])
    assert found["oosa_threshold"] == {"a": theta}
    assert found["validation_open_set_accuracy"] == {"a": accuracy}
    assert found["oosa"] == {"a": open_set_accuracy(theta, known, right, unknown)}
    assert found["surrogate_images"] == 9


def test_both_sides_count_the_same_whatever_their_numbers():
    known, right = np.array([1.0, 2.0, 3.0, 9.0]), np.array([True, False, True, True])
    assert open_set_accuracy(3.0, known, right, [5.0]) == (2 / 4 + 1) / 2
    assert open_set_accuracy(3.0, known, right, [5.0] * 99 + [0.0]) == (2 / 4 + 0.99) / 2
