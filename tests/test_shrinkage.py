"""The ridge by held-out likelihood, against Gaussians that are really fitted without each image."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal
from test_detector_formulas import outputs

from osr.detectors import shrinkage
from osr.detectors.chunks import Images
from osr.detectors.gaussian import Mahalanobis, Rmds
from osr.detectors.moments import Moments
from osr.detectors.sample import Sample
from osr.errors import InputError


def drawn(per_class, width, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(3 * per_class) % 3
    values = 4 * rng.normal(size=(3, width))[labels] + rng.normal(size=(len(labels), width)) * np.linspace(
        0.2, 2, width
    )
    return outputs(values, labels, weight=np.zeros((3, width)))


def refitted(train, variance, ridge):
    """Mean log-likelihood of each image under the Gaussians of all others."""
    x, labels = train.features.astype(float), train.labels
    found = []
    for row in range(len(x)):
        rest = np.arange(len(x)) != row
        means = np.stack([x[rest & (labels == c)].mean(0) for c in range(3)])
        gaps = (x - means[labels])[rest]
        covariance = gaps.T @ gaps / rest.sum() + ridge * variance * np.eye(x.shape[1])
        found.append(multivariate_normal.logpdf(x[row], means[labels[row]], covariance))
    return np.mean(found)


@pytest.mark.parametrize(("per_class", "width"), [(20, 5), (6, 12), (4, 20), (2, 6)])
def test_the_ridge_is_the_best_of_those_really_left_out(per_class, width):
    train = drawn(per_class, width)
    x = train.features.astype(float)
    means = np.stack([x[train.labels == c].mean(0) for c in range(3)])
    variance = np.square(x - means[train.labels]).mean()
    likelihoods = [refitted(train, variance, ridge) for ridge in shrinkage.RIDGES]
    expected = shrinkage.RIDGES[int(np.argmax(likelihoods))]
    assert 1e-6 < expected < 100
    for detector in (Mahalanobis(ridge="auto"), Rmds(ridge="auto")):
        assert_allclose(detector.fit(train)._state["ridge"], [expected])


def test_more_images_need_less() -> None:
    chosen = [
        float(Mahalanobis(ridge="auto").fit(drawn(count, 20))._state["ridge"]) for count in (4, 40, 4000)
    ]
    assert chosen[0] > chosen[1] > chosen[2]


def test_a_feature_that_never_varies_does_not_change_the_ridge() -> None:
    train = drawn(6, 12)
    dead = outputs(np.pad(train.features, ((0, 0), (0, 12))), train.labels, weight=np.zeros((3, 24)))
    ridges = [float(Mahalanobis(ridge="auto").fit(images)._state["ridge"]) for images in (train, dead)]
    assert_allclose(ridges[1], 2 * ridges[0], rtol=0.3)  # the mean variance halves; steps are 1.8 apart


def test_images_left_out_are_drawn_where_there_are_many() -> None:
    train = drawn(100, 8)
    images = Images(train, None, torch.device("cpu"))
    moments = Moments.of_classes(images)
    every, some = (
        shrinkage.held_out_ridge(Sample.of(images, size), moments, "mahalanobis") for size in (4096, 150)
    )
    assert 1 / 4 < some / every < 4


def test_a_sample_of_images_alone_in_their_classes_is_refused() -> None:
    images = Images(drawn(2, 8), None, torch.device("cpu"))
    moments = Moments.of_classes(images)
    alone = moments._replace(counts=torch.ones(3, dtype=torch.int64))
    with pytest.raises(InputError, match=r"detectors.rmds.ridge is auto, but .* alone in its class"):
        shrinkage.held_out_ridge(Sample.of(images, 4096), alone, "rmds")
