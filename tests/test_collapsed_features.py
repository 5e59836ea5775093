"""Images of a class that are nearly equal: Mahalanobis distances, neighbours, very confident logits."""

import numpy as np
import pytest
import torch
from detector_references import REFERENCES
from numpy.testing import assert_allclose, assert_array_equal
from test_detector_formulas import logits_only, outputs

from osr.detectors.gaussian import Mahalanobis
from osr.detectors.logit_scores import Entropy, Gen, Msp
from osr.detectors.neighbors import Knn


@pytest.mark.parametrize("deviation", [1, 0.1, 0.01, 0.003])
@pytest.mark.parametrize(("classes", "width", "count"), [(10, 128, 5000), (4, 400, 120)])
def test_mahalanobis_is_that_of_float64(classes, width, count, deviation):
    rng = np.random.default_rng(0)
    centres = 3 * np.abs(rng.standard_normal((classes, width)))
    labels = np.arange(count) % classes
    weight = np.zeros((classes, width))
    train, test = (
        outputs(centres[own] + size * rng.standard_normal((len(own), width)), own, weight=weight)
        for own, size in ((labels, deviation), (labels[:100], 2 * deviation))
    )
    right = REFERENCES["mahalanobis"](train, test, ridge=1e-6)
    assert_allclose(Mahalanobis(ridge=1e-6).fit(train).score(test), right, rtol=1e-5)


@pytest.mark.parametrize("noise", [1e-1, 1e-2, 1e-3, 3e-4, 1e-5])
def test_the_kth_neighbour_is_the_kth_and_the_same_alone(noise):
    rng = np.random.default_rng(0)
    centres = 5 * np.abs(rng.standard_normal((5, 64)))
    train, test = (
        outputs(centres[np.arange(n) % 5] * (1 + noise * rng.standard_normal((n, 64)))) for n in (2000, 50)
    )
    knn = Knn(num_neighbors=50).fit(train)
    found = knn.score(test)
    assert_allclose(found, REFERENCES["knn"](train, test, num_neighbors=50), rtol=1e-5)
    alone = [knn.score(test.select(np.array([row])))[0] for row in range(50)]
    assert_allclose(alone, found, rtol=1e-9)


@pytest.mark.parametrize("copies", [0, 40])
def test_threads_and_groups_of_columns_change_no_neighbour(copies):
    """Enough images for several threads and a bank that is looked at in groups, with equal rows in it."""
    rng = np.random.default_rng(1)
    bank = rng.standard_normal((2003, 16))
    bank[:copies] = bank[1500]
    test = rng.standard_normal((300, 16))
    test[:20] = bank[1500] + 1e-3 * rng.standard_normal((20, 16))
    knn, threads = Knn(num_neighbors=5).fit(outputs(bank)), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        found = knn.score(outputs(test))
        torch.set_num_threads(3)
        assert_array_equal(knn.score(outputs(test)), found)
    finally:
        torch.set_num_threads(threads)
    assert_allclose(found, REFERENCES["knn"](outputs(bank), outputs(test), num_neighbors=5), rtol=1e-9)


def test_vectors_of_zeros_are_at_no_distance_from_each_other():
    features = np.maximum(np.random.default_rng(0).standard_normal((500, 16)), 0)
    features[:60] = 0
    zero = outputs(np.zeros((1, 16)))
    assert Knn(num_neighbors=50).fit(outputs(features)).score(zero)[0] == 0
    assert Knn(num_neighbors=61).fit(outputs(features)).score(zero)[0] == pytest.approx(1)


@pytest.mark.parametrize("detector", [Msp(), Entropy(), Gen(gamma=0.1, num_top=3)])
def test_confident_images_keep_their_order_at_any_gap(detector):
    gaps = [60.0, 90, 103, 104, 110, 200, 700, 701, 745, 800, 1e4, 1e6]
    scores = detector.score(logits_only([[gap, 0, -30] for gap in gaps]))
    assert (np.diff(scores) < 0).all()
    assert (scores > 0).all()
