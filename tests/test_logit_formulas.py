"""Scores of logits alone, by hand and against float64."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import entr, softmax
from test_detector_formulas import LOG2, LOG3, logits_only, outputs

from osr.detectors.logit_scores import Energy, Entropy, Gen, GradNorm, MaxLogit, Msp


def test_logit_scores_by_hand() -> None:
    images = logits_only([[LOG2, 0, 0], [0, 0, 0]])
    assert_allclose(Msp().score(images), [1 / 2, 2 / 3], rtol=1e-6)
    assert_allclose(MaxLogit().score(images), [-LOG2, 0], rtol=1e-6)
    assert_allclose(Energy(temperature=1.0).score(images), [-np.log(4), -LOG3], rtol=1e-6)
    assert_allclose(
        Energy(temperature=2.0).score(images), [-2 * np.log(2 + np.sqrt(2)), -2 * LOG3], rtol=1e-6
    )
    assert_allclose(Entropy().score(images), [1.5 * LOG2, LOG3], rtol=1e-6)
    terms = np.array([1 / 4, 3 / 16, 3 / 16]) ** 0.5
    assert_allclose(Gen(gamma=0.5, num_top=3).score(images), [terms.sum(), 3 * (2 / 9) ** 0.5], rtol=1e-6)
    assert_allclose(Gen(gamma=0.5, num_top=2).score(images), [terms[:2].sum(), 2 * (2 / 9) ** 0.5], rtol=1e-6)
    assert_allclose(Gen(gamma=0.5, num_top=1).score(images), [terms[0], (2 / 9) ** 0.5], rtol=1e-6)


def test_confident_images_keep_their_order() -> None:
    """1 - max p in float32 is 0 for all of these."""
    gaps = np.array([20.0, 25, 40, 60])
    images = logits_only([[gap, 0, -30] for gap in gaps])
    rest = np.exp(-gaps) + np.exp(-30 - gaps)
    assert_allclose(Msp().score(images), rest / (1 + rest), rtol=1e-5)
    assert_allclose(Entropy().score(images), rest + gaps * np.exp(-gaps), rtol=1e-5)
    assert_allclose(Gen(gamma=0.1, num_top=1).score(images), rest**0.1, rtol=1e-5)


@pytest.mark.parametrize("num_top", [1, 3, 6, 100])
@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0])
def test_softmax_scores_match_float64(num_top: int, spread: float) -> None:
    logits = spread * np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    images, p = logits_only(logits), softmax(logits.astype(np.float64), axis=1)
    top = np.sort(p, axis=1)[:, -num_top:]
    expected = (top**0.1 * (1 - top).clip(1e-300) ** 0.1).sum(1)
    # 1 - p in float64 has lost digits where p is nearly 1; ours has not.
    sure = p.max(1) < 1 - 1e-8
    assert_allclose(Gen(gamma=0.1, num_top=num_top).score(images)[sure], expected[sure], rtol=2e-6)
    assert_allclose(Msp().score(images)[sure], 1 - p.max(1)[sure], rtol=1e-6)
    assert_allclose(Entropy().score(images), entr(p).sum(1), rtol=1e-5, atol=1e-15)


def test_gradnorm_is_the_gradient() -> None:
    images = outputs([[1.0, -2.0]], weight=[[LOG2, 0], [0, 0], [0, 0]])
    assert_allclose(GradNorm().score(images), [-3 * (0.5 + 0.25 + 0.25)], rtol=1e-6)
