"""Each detector against numbers worked out by hand or by a slow, plain version of its formula."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, rel_entr, softmax
from scipy.stats import genpareto

from osr.detectors.distances import Mav
from osr.detectors.gaussian import Mahalanobis, Rmds
from osr.detectors.neco import Neco
from osr.detectors.neighbors import Knn, NNGuide
from osr.detectors.pareto import fit_pareto
from osr.detectors.postmax import PostMax
from osr.detectors.templates import Klm, She
from osr.detectors.vim import Vim
from osr.errors import InputError
from osr.outputs import Outputs

LOG2, LOG3 = np.log(2), np.log(3)


def outputs(features, labels=None, *, weight=None, bias=None, logits=None) -> Outputs:
    features = np.asarray(features, dtype=np.float32)
    weight = np.eye(features.shape[1]) if weight is None else np.asarray(weight)
    bias = np.zeros(len(weight)) if bias is None else np.asarray(bias)
    logits = features @ weight.T + bias if logits is None else np.asarray(logits)
    labels = logits.argmax(1) if labels is None else np.asarray(labels)
    return Outputs(
        logits.astype(np.float32),
        features,
        labels.astype(np.int64),
        np.arange(len(labels)),
        weight.astype(np.float32),
        bias.astype(np.float32),
    )


def logits_only(logits) -> Outputs:
    return outputs(np.zeros((len(logits), 2)), weight=np.zeros((len(logits[0]), 2)), logits=logits)


def random_outputs(
    seed: int, *, count: int = 300, width: int = 8, classes: int = 5, relu: bool = False
) -> Outputs:
    rng = np.random.default_rng(seed)
    head = np.random.default_rng(42)
    weight, bias = head.normal(size=(classes, width)), head.normal(size=classes)
    features = rng.normal(size=(count, width)) * np.linspace(0.5, 2, width)
    return outputs(np.maximum(features, 0) if relu else features, weight=weight, bias=bias)


def test_mav_by_hand() -> None:
    """Means (2, 0) and (0, 2); the third image of class 0 is predicted as 1 and does not count."""
    train = outputs([[1, 0], [3, 0], [0, 9], [0, 2]], [0, 0, 0, 1])
    test = outputs([[2, 0], [2, -3], [0, 2.5]])
    assert_allclose(Mav(space="features").fit(train).score(test), [0, 3, 0.5], rtol=1e-6)
    assert_allclose(Mav(space="logits").fit(train).score(test), [0, 3, 0.5], rtol=1e-6)


def test_mahalanobis_by_hand() -> None:
    """Within-class covariance diag(1, 4); means (3, 0), (-3, 0)."""
    around = np.array([[1, 2], [1, -2], [-1, 2], [-1, -2]])
    train = outputs(
        np.concatenate([around + np.array([3, 0]), around - np.array([3, 0])]), np.repeat([0, 1], 4)
    )
    test = outputs([[3, 0], [5, 0], [0, 4], [-3, -6]])
    scores = Mahalanobis(ridge=1e-9).fit(train).score(test)
    assert_allclose(scores, [0, 4, 9 + 4, 9], rtol=1e-5, atol=1e-5)
    # Class-free: mean 0, covariance diag(1 + 9, 4).
    free = [9 / 10, 25 / 10, 4, 9 / 10 + 9]
    assert_allclose(Rmds(ridge=1e-9).fit(train).score(test), scores - free, rtol=1e-5, atol=1e-5)


def test_mahalanobis_matches_a_slow_version() -> None:
    train, test = random_outputs(0), random_outputs(1)
    labels = np.random.default_rng(5).integers(0, 5, len(train))
    train = outputs(train.features, labels, weight=train.weight, bias=train.bias)
    x = train.features.astype(float)
    means = np.stack([x[labels == c].mean(0) for c in range(5)])
    own = np.linalg.inv(np.cov((x - means[labels]).T, bias=True))
    distances = np.stack([((test.features - m) @ own * (test.features - m)).sum(1) for m in means], 1)
    centred = test.features - x.mean(0)
    free = (centred @ np.linalg.inv(np.cov(x.T, bias=True)) * centred).sum(1)
    assert_allclose(Mahalanobis(ridge=1e-9).fit(train).score(test), distances.min(1), rtol=1e-4)
    assert_allclose(Rmds(ridge=1e-9).fit(train).score(test), distances.min(1) - free, rtol=1e-4, atol=1e-4)


def test_constant_features_are_refused() -> None:
    with pytest.raises(InputError, match="constant"):
        Mahalanobis(ridge=1e-6).fit(outputs(np.eye(2), [0, 1]))


def test_knn_by_hand() -> None:
    train = outputs([[2, 0], [0, 3], [-1, 0], [0, -5]])
    test = outputs([[4, 0], [0, 0], [1, 1]])
    for k, expected in {
        1: [0, 1, np.sqrt(2 - np.sqrt(2))],
        2: [np.sqrt(2), 1, np.sqrt(2 - np.sqrt(2))],
        4: [2, 1, np.sqrt(2 + np.sqrt(2))],
    }.items():
        assert_allclose(Knn(num_neighbors=k).fit(train).score(test), expected, rtol=1e-6)
    with pytest.raises(InputError, match="only 4"):
        Knn(num_neighbors=5).fit(train)


@pytest.mark.parametrize("count", [1, 7, 50])
@pytest.mark.parametrize("size", [60, 1000, 40000])
def test_knn_is_exact(count: int, size: int) -> None:
    train, test = random_outputs(0, count=size), random_outputs(1, count=40)
    norm = [
        images.features / np.linalg.norm(images.features, axis=1, keepdims=True) for images in (train, test)
    ]
    expected = np.sort(cdist(norm[1], norm[0]), axis=1)[:, count - 1]
    assert_allclose(Knn(num_neighbors=count).fit(train).score(test), expected, rtol=1e-4, atol=1e-6)


def test_a_zero_training_vector_is_1_away() -> None:
    detector = Knn(num_neighbors=1).fit(outputs([[0, 0], [-1, 0]]))
    assert_allclose(detector.score(outputs([[1, 0], [0, 0]])), [1, 0], atol=1e-7)


def test_nnguide_by_hand() -> None:
    train = outputs([[2, 0], [0, 2], [0, -2]])
    test = outputs([[1, 0]])
    energy = np.array([np.log(np.exp(2) + 1), np.log(np.exp(2) + 1), np.log(np.exp(-2) + 1)])
    expected = [-np.mean([energy[0], 0]) * np.log(np.e + 1)]
    assert_allclose(NNGuide(num_neighbors=2, bank_fraction=1.0).fit(train).score(test), expected, rtol=1e-6)


def test_nnguide_draws_its_bank_the_same_each_time() -> None:
    train, test = random_outputs(0), random_outputs(1)
    first, again, whole = (
        NNGuide(num_neighbors=5, bank_fraction=share).fit(train).score(test) for share in (0.1, 0.1, 1.0)
    )
    assert (first == again).all()
    assert (first != whole).any()


def test_vim_by_hand() -> None:
    """Second moments diag(8, 4.5, 1): the third feature is the residual. Largest logits 4, 0, 3, 0."""
    weight = [[1, 0, 0], [0, 1, 0]]
    train = outputs([[4, 0, 1], [-4, 0, 1], [0, 3, -1], [0, -3, -1]], weight=weight)
    scores = Vim(dimension=2).fit(train).score(outputs([[1, 2, 5]], weight=weight))
    assert_allclose(scores, [1.75 * 5 - np.log(np.exp(1) + np.exp(2))], rtol=1e-6)


def test_vim_origin_survives_rows_that_sum_to_0() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 12))
    weight -= weight.mean(0)
    # Float32 rounding leaves a tiny singular value whose inverse would throw the origin far away.
    bias = np.array([0.5, -0.5, 0.25, 0.25])
    train = outputs(np.abs(rng.normal(size=(100, 12))), weight=weight, bias=bias)
    detector = Vim(dimension=6).fit(train)
    assert np.linalg.norm(detector._state["origin"]) < 10
    assert_allclose(
        detector._state["origin"], -np.linalg.pinv(weight, rcond=1e-4) @ bias, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("largest", [40, 0.4])
def test_vim_matches_float64_where_variances_span_six_decades(largest: float) -> None:
    rng = np.random.default_rng(0)
    width, dimension = 64, 32
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    weight, bias = largest / 40 * (rng.normal(size=(5, width)) + 1), largest / 40 * rng.normal(size=5)
    train, test = (
        outputs(
            (rng.normal(size=(count, width)) * np.logspace(0, -3, width)) @ turn.T + 1,
            weight=weight,
            bias=bias,
        )
        for count in (3000, 50)
    )
    origin = -np.linalg.pinv(weight) @ bias
    x, y = (images.features.astype(float) - origin for images in (train, test))
    minor = np.linalg.eigh(x.T @ x)[1][:, : width - dimension]
    mean = train.logits.max(1).astype(float).mean()
    assert 0 < mean < 2 * largest
    alpha = mean / np.linalg.norm(x @ minor, axis=1).mean()
    expected = alpha * np.linalg.norm(y @ minor, axis=1) - logsumexp(test.logits.astype(float), axis=1)
    scores = Vim(dimension=dimension).fit(train).score(test)
    assert np.ptp(expected) > largest / 40
    assert_allclose(scores, expected, rtol=1e-5, atol=1e-5 * np.ptp(expected))


def test_vim_refusals() -> None:
    train = random_outputs(0)
    with pytest.raises(InputError, match=r"only 8 features.*below 8"):
        Vim(dimension=8).fit(train)
    with pytest.raises(InputError, match="no residual"):
        Vim(dimension=6).fit(train.select(np.arange(5)))
    alike = outputs(train.features, weight=np.ones((5, 8)), logits=np.full((300, 5), -3.0))
    with pytest.raises(InputError, match="all -3, like the other logits"):
        Vim(dimension=4).fit(alike)


def test_vim_is_the_same_whatever_is_taken_off_all_logits() -> None:
    train, test = random_outputs(0), random_outputs(1)

    def lowered(images: Outputs, offset: float) -> Outputs:
        return outputs(
            images.features, images.labels, weight=images.weight, bias=images.bias.astype(float) - offset
        )

    far, farther = (
        Vim(dimension=4).fit(lowered(train, offset)).score(lowered(test, offset)) - offset
        for offset in (100, 1000)
    )
    assert np.ptp(far) > 1
    assert_allclose(far, farther, rtol=1e-4, atol=1e-4)


def test_klm_by_hand() -> None:
    """Templates (3/4, 1/4) of two images and (1/4, 3/4) of one."""
    train = logits_only(np.log([[0.7, 0.3], [0.8, 0.2], [0.25, 0.75]]))
    test = logits_only(np.log([[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]]))
    expected = [0, 0.5 * np.log(0.5 / 0.75) + 0.5 * LOG2, 0.1 * np.log(0.1 / 0.25) + 0.9 * np.log(0.9 / 0.75)]
    assert_allclose(Klm().fit(train).score(test), expected, rtol=1e-5, atol=1e-7)


def test_klm_matches_a_slow_version_and_leaves_out_classes_never_predicted() -> None:
    train, test = random_outputs(0), random_outputs(1)
    train = train.select(train.predictions != 2)
    p, q = softmax(train.logits.astype(float), axis=1), softmax(test.logits.astype(float), axis=1)
    templates = [p[train.predictions == c].mean(0) for c in range(5) if c != 2]
    expected = np.min([rel_entr(q, template).sum(1) for template in templates], axis=0)
    assert_allclose(Klm().fit(train).score(test), expected, rtol=1e-4, atol=1e-7)


def test_she_by_hand() -> None:
    train = outputs([[1, 0], [3, 0], [0, 9], [0, 2]], [0, 0, 0, 1])
    assert_allclose(She().fit(train).score(outputs([[5, 1], [1, 4]])), [-10, -8], rtol=1e-6)


@pytest.mark.parametrize("shape", [-0.7, -0.2, 0.0, 0.4])
def test_pareto_has_the_likelihood_of_scipys_fit(shape: float) -> None:
    """In float64, and no less likely than what scipy finds."""
    drawn = genpareto.rvs(shape, scale=3e-3, size=400, random_state=0)
    found = fit_pareto(drawn)
    theirs, _, scale = genpareto.fit(drawn, floc=0)
    costs = [genpareto.nnlf(fit, drawn) for fit in ((found.shape, 0, found.scale), (theirs, 0, scale))]
    assert costs[0] <= costs[1] + 1e-6
    assert abs(found.shape - shape) < 0.15


def test_pareto_of_excesses_over_many_decades_is_the_heaviest_that_is_tried() -> None:
    drawn = np.geomspace(1e-14, 1, 50)
    found = fit_pareto(drawn)
    assert found.shape / found.scale == pytest.approx(1e6 / drawn.mean(), rel=0.3)
    # No shape beside it is more likely at that place.
    costs = [genpareto.nnlf((found.shape * by, 0, found.scale * by), drawn) for by in (0.99, 1, 1.01)]
    assert costs[1] == min(costs)


def test_postmax_keeps_the_order_where_its_distribution_ends() -> None:
    """Beyond the largest and below the smallest training value, and for values that are nearly equal."""
    train = outputs([[1, 0], [0.9, 0.1], [0.5, 0.4], [0.8, 0.3]], [0, 0, 0, 0])
    detector = PostMax().fit(train)
    test = outputs(np.zeros((7, 2)))
    ratios = np.array([-5.0, -1e-3, 0.3, 0.9, 0.99, 5.0, 5.000001])
    test = replace(test, features=np.eye(2, dtype=np.float32)[[0] * 7], logits=ratios[:, None].repeat(2, 1))
    scores = detector.score(test)
    assert (np.diff(scores) < 0).all()
    assert scores[0] > 1 > scores[3] >= 0 > scores[-1]


def test_neco_by_hand() -> None:
    """Two features that go together, and a third that does not: two thirds of the variance are in one."""
    train = outputs([[1, 1, 1], [1, 1, -1], [-1, -1, 1], [-1, -1, -1]], np.zeros(4), weight=np.eye(2, 3))
    test = outputs([[2, 2, 0], [0, 0, 3], [1, 1, 1], [1, -1, 0], [0, 0, 0]], weight=np.eye(2, 3))
    scores = Neco(dimension=1, by_maxlogit=False).fit(train).score(test)
    assert_allclose(scores, [-1, 0, -np.sqrt(2 / 3), 0, 0], atol=1e-7)
    times = Neco(dimension=1, by_maxlogit=True).fit(train).score(test)
    assert_allclose(times, [-2, 0, -np.sqrt(2 / 3), 0, 0], atol=1e-7)
    assert Neco(dimension="auto", by_maxlogit=False).fit(train)._state["major"].shape == (3, 2)
