"""Images of a class that are nearly equal: Mahalanobis distances, neighbours, very confident logits."""

import numpy as np
import pytest
from detector_references import REFERENCES
from numpy.testing import assert_allclose
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
