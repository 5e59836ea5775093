"""Our detectors beside pytorch-ood's on the same arrays, where the scores differ: which are right, and why.

docs/parity.md lists the outcome, as for test_parity.py.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp, softmax

pytest.importorskip("pytorch_ood", reason="pytorch-ood is not installed: pip install -r requirements-dev.txt")

from parity_arrays import (
    CLASSES,
    COUNT,
    EQUAL,
    MILD_TEST,
    MILD_TRAIN,
    OPENMAX,
    TEST,
    TRAIN,
    WIDTH,
    drawn,
    made,
    scores,
    settings_with,
)

from benchmarks.peer_pytorch_ood import PEERS
from osr.detectors.registry import build_detectors
from osr.errors import InputError


def confident(gaps):
    """Images whose largest logit leads by these gaps, all others equal."""
    logits = np.zeros((len(gaps), 3), np.float32)
    logits[:, 0] = gaps
    return replace(
        made(np.zeros((len(gaps), 2)), np.zeros(len(gaps)), np.zeros((3, 2)), np.zeros(3)), logits=logits
    )


def test_msp_keeps_the_order_of_confident_images():
    images = confident([20.0, 25, 40, 60])
    ours, theirs = scores("msp", settings_with(), images, images)
    assert (theirs == -1).all()
    assert_allclose(ours, 2 * np.exp(-np.array([20.0, 25, 40, 60])), rtol=1e-5)


@pytest.mark.parametrize("name", ["gen", "entropy"])
def test_probabilities_below_1e_7_count(name):
    gaps = np.array([20.0, 25, 30])
    ours, theirs = scores(name, settings_with(), confident(gaps), confident(gaps))
    rest = 2 * np.exp(-gaps)  # 1 - max p, but for a share of 1e-8
    right = {
        "gen": rest**0.1 + 2 * (rest / 2) ** 0.1,
        "entropy": rest - rest * np.log(rest / 2),
    }[name]
    assert_allclose(ours, right, rtol=1e-5)
    assert theirs[1] == theirs[2]  # cut off at 1e-7


def test_klm_of_confident_images_keeps_its_digits():
    train, test = drawn(1, COUNT, sharpness=2.0), drawn(2, 200, sharpness=2.0)
    ours, theirs = scores("klm", settings_with(), train, test)
    p, q = softmax(train.logits.astype(float), axis=1), softmax(test.logits.astype(float), axis=1)
    templates = np.stack([p[train.predictions == c].mean(0) for c in range(CLASSES)])
    right = (q[:, None] * (np.log(q[:, None].clip(1e-300)) - np.log(templates))).sum(2).min(1)
    small = right < 1e-5
    assert small.sum() > 50
    assert_allclose(ours[small], right[small], rtol=1e-3, atol=1e-12)
    assert np.abs(theirs[small] / right[small] - 1).max() > 1e-2
    assert theirs.min() < 0  # a divergence cannot be


@pytest.mark.parametrize("name", ["mahalanobis", "rmds"])
def test_gaussians_of_a_feature_that_nearly_repeats_another(name):
    """Their inverse is taken in float32, and the means are taken off last."""

    def unequal(outputs, seed):
        features = outputs.features.copy()
        features[:, 1] = features[:, 2] + 1e-3 * np.random.default_rng(seed).normal(size=len(features))
        return made(features, outputs.labels, outputs.weight, outputs.bias)

    train, test = unequal(TRAIN, 3), unequal(TEST, 4)
    ours, theirs = scores(name, settings_with(**{name: {"ridge": 1e-12}}), train, test)
    x, y = train.features.astype(float), test.features.astype(float)
    means = np.stack([x[train.labels == c].mean(0) for c in range(CLASSES)])

    def distance(centre, spread):
        solved = np.linalg.solve(spread.T @ spread / len(spread), (y - centre).T).T
        return ((y - centre) * solved).sum(1)

    right = np.min([distance(mean, x - means[train.labels]) for mean in means], axis=0)
    if name == "rmds":
        right = right - distance(x.mean(0), x - x.mean(0))
    error = np.abs(ours - right).max() / np.abs(right).max()
    their_error = np.abs(EQUAL[name][0] * theirs - right).max() / np.abs(right).max()
    assert error < 2e-3
    assert their_error > 10 * error


def test_a_feature_vector_of_zeros_has_a_score():
    test = made(np.zeros((1, WIDTH)), [0], TRAIN.weight, TRAIN.bias)
    for name in ("ash", "scale"):
        ours, theirs = scores(name, settings_with(), TRAIN, test)
        assert_allclose(ours, -logsumexp(TRAIN.bias.astype(float)), rtol=1e-5)
        assert np.isnan(theirs).all(), name
    ours, theirs = scores("knn", settings_with(), TRAIN, test)
    assert_allclose([ours, theirs], 1, rtol=1e-6)


def test_ash_b_fills_active_features_only():
    features = np.zeros((1, WIDTH))
    features[0, :2] = 3
    test = made(features, [0], TRAIN.weight, TRAIN.bias)
    changes = {"ash": {"variant": "B", "pruned_fraction": 0.5}}
    ours, theirs = scores("ash", settings_with(**changes), TRAIN, test)
    assert_allclose(ours, -logsumexp(test.logits.astype(float), axis=1), rtol=1e-5)  # sum 6 over 2, as before
    assert abs(theirs[0] - ours[0]) > 0.1  # sum 6 over 8, six of them inactive


def test_fdbd_of_classes_that_share_a_row():
    weight, bias = TRAIN.weight.copy(), TRAIN.bias.copy()
    weight[1], bias[1] = weight[0], bias[0]
    train, test = (made(part.features, part.labels, weight, bias) for part in (TRAIN, TEST))
    ours, theirs = scores("fdbd", settings_with(), train, test)
    assert np.isfinite(ours).all()
    assert np.isnan(theirs).any()


def test_vim_where_variances_span_six_decades():
    """Their covariance and its eigenvectors are float32: directions of nearly equal variance mix."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    weight, bias = rng.normal(size=(5, 64)) + 1, rng.normal(size=5)
    train, test = (
        made(
            rng.normal(size=(count, 64)) * np.logspace(0, -3, 64) @ turn.T + 1, np.zeros(count), weight, bias
        )
        for count in (3000, 200)
    )
    ours, theirs = scores("vim", settings_with(vim={"dimension": 32}), train, test)
    origin = -np.linalg.pinv(train.weight.astype(float)) @ train.bias
    x, y = (part.features.astype(float) - origin for part in (train, test))
    minor = np.linalg.eigh(x.T @ x)[1][:, :32]
    alpha = train.logits.max(1).astype(float).mean() / np.linalg.norm(x @ minor, axis=1).mean()
    right = alpha * np.linalg.norm(y @ minor, axis=1) - logsumexp(test.logits.astype(float), axis=1)
    error, their_error = (np.abs(found - right).max() / np.ptp(right) for found in (ours, theirs))
    assert error < 1e-5
    assert their_error > 10 * error


def test_vim_with_too_few_features():
    settings = settings_with(vim={"dimension": WIDTH})
    with pytest.raises(InputError, match="nothing would be left"):
        build_detectors(settings.model_copy(update={"enabled": ("vim",)}))["vim"].fit(TRAIN)
    assert not np.isfinite(PEERS["vim"](TRAIN, settings)(TEST)).any()  # 0 residual, alpha infinite


def test_openmax_is_changed_by_the_translation():
    ours, theirs = scores("openmax", settings_with(openmax=OPENMAX), MILD_TRAIN, MILD_TEST)
    assert np.abs(ours - theirs).max() > 0.02


def test_openmax_does_not_depend_on_the_batch():
    settings = settings_with(openmax=OPENMAX)
    (detector,) = build_detectors(settings.model_copy(update={"enabled": ("openmax",)})).values()
    detector.fit(MILD_TRAIN)
    theirs = PEERS["openmax"](MILD_TRAIN, settings)
    alone = MILD_TEST.select(slice(0, 1))
    assert detector.score(alone)[0] == pytest.approx(detector.score(MILD_TEST)[0], rel=1e-6)
    assert abs(theirs(alone)[0] - theirs(MILD_TEST)[0]) > 1e-3
