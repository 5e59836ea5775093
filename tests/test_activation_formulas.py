"""Detectors that change activations or weights first, by hand and against NumPy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from test_detector_formulas import outputs

from osr.detectors.activations import Ash, Dice, React, Scale
from osr.detectors.boundaries import Fdbd
from osr.errors import InputError


def test_react_by_hand() -> None:
    """Activations 0 .. 10: the 0.9 quantile is 9."""
    train = outputs(np.arange(11.0)[:, None], np.zeros(11), weight=[[1], [0]])
    test = outputs([[20.0], [1.0]], weight=[[1], [0]])
    assert_allclose(
        React(quantile=0.9).fit(train).score(test), [-np.logaddexp(9, 0), -np.logaddexp(1, 0)], rtol=1e-6
    )
    both = React(quantile=0.9, lower_quantile=0.2).fit(train).score(test)
    assert_allclose(both, [-np.logaddexp(9, 0), -np.logaddexp(2, 0)], rtol=1e-6)


@pytest.mark.parametrize("kind", ["normal", "relu", "constant", "few values"])
@pytest.mark.parametrize("quantile", [0.001, 0.5, 0.9, 0.9999])
def test_quantile_matches_numpy(kind: str, quantile: float) -> None:
    values = np.random.default_rng(0).normal(size=(3000, 60)).astype(np.float32)
    values = {
        "normal": values,
        "relu": np.maximum(values, 0),
        "constant": np.ones_like(values),
        "few values": np.round(values),
    }[kind]
    train = outputs(values, weight=np.zeros((2, 60)))
    detector = React(quantile=quantile).fit(train)
    assert_allclose(detector._state["clip"].item(), np.quantile(values.astype(float), quantile), rtol=1e-6)


@pytest.mark.parametrize(
    ("variant", "kept"),
    [
        ("P", [0, 0, 3, 4]),
        ("S", np.array([0, 0, 3, 4]) * np.exp(10 / 7)),
        ("B", [0, 0, 5, 5]),
    ],
)
def test_ash_by_hand(variant: str, kept: list[float]) -> None:
    images = outputs([[1, 2, 3, 4]], weight=0.1 * np.eye(4), bias=[0.1, 0.2, 0.3, 0.4])
    expected = -logsumexp(0.1 * np.asarray(kept) + images.bias)
    assert_allclose(Ash(variant=variant, pruned_fraction=0.5).score(images), [expected], rtol=1e-6)


def test_ash_b_fills_active_features_only() -> None:
    images = outputs([[0, 0, 6, 0], [0, 0, 0, 0]])
    expected = [-logsumexp([0, 0, 6, 0]), -np.log(4)]
    assert_allclose(Ash(variant="B", pruned_fraction=0.5).score(images), expected, rtol=1e-6)


def test_scale_by_hand() -> None:
    images = outputs([[1, 2, 3, 4]], weight=0.1 * np.eye(4), bias=[0.1, 0.2, 0.3, 0.4])
    expected = -logsumexp(0.1 * images.features[0] * np.exp(10 / 7) + images.bias)
    assert_allclose(Scale(pruned_fraction=0.5).score(images), [expected], rtol=1e-6)


@pytest.mark.parametrize("detector", [Ash(variant="S", pruned_fraction=0.5), Scale(pruned_fraction=0.5)])
def test_shaping_refuses_negative_features(detector: Ash | Scale) -> None:
    images = outputs([[1.0, -0.25]])
    for call in (detector.fit, detector.score):
        with pytest.raises(InputError, match=r"behind a ReLU.*-0.25"):
            call(images)


def test_dice_by_hand() -> None:
    """Mean feature (1, 2): contributions 3, 2, 1, 8; the upper half stays."""
    weight, bias = [[3, 1], [1, 4]], [0.5, 0.25]
    train = outputs([[0, 2], [2, 2]], weight=weight, bias=bias)
    test = outputs([[1, 1]], weight=weight, bias=bias)
    expected = -logsumexp([3 + 0.5, 4 + 0.25])
    assert_allclose(Dice(masked_fraction=0.5).fit(train).score(test), [expected], rtol=1e-6)


def test_fdbd_by_hand() -> None:
    """Mean feature (0, 0); class 0 is 1 from the boundary to class 1 and 2 / sqrt(5) from that to class 2."""
    weight = [[1, 0], [-1, 0], [0, -2]]
    train = outputs([[1, 0], [-1, 0]], weight=weight)
    test = outputs([[1, 0], [0, 0]], weight=weight)
    assert_allclose(Fdbd().fit(train).score(test), [-(1 + 1 / np.sqrt(5)) / 2, 0], rtol=1e-6, atol=1e-12)


def test_fdbd_leaves_out_classes_that_share_a_row() -> None:
    weight = [[1, 0], [-1, 0], [1, 0]]
    train = outputs([[1, 0], [-1, 0]], weight=weight)
    assert_allclose(Fdbd().fit(train).score(outputs([[2, 0]], weight=weight)), [-2 / 2], rtol=1e-6)
