"""Detectors at their limits: nothing to see, nothing but ties, and what they refuse; and in a graph."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detector_references import REFERENCES
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from test_detector_choices import TEST, TRAIN
from test_detector_formulas import logits_only, outputs
from test_openmax import DEFAULTS

from osr.detectors import shrinkage, tails
from osr.detectors.activations import Ash
from osr.detectors.chunks import Images
from osr.detectors.ensemble import Ensemble
from osr.detectors.gaussian import Mahalanobis, Rmds
from osr.detectors.leverage import Pnml
from osr.detectors.logit_scores import Entropy, Gen, KPlus1, MaxLogit, Msp
from osr.detectors.moments import Moments
from osr.detectors.neighbors import Knn, Relation
from osr.detectors.openmax import OpenMax
from osr.detectors.postmax import PostMax
from osr.detectors.sample import Sample
from osr.detectors.tails import Tails
from osr.detectors.templates import Cosine, Klm, RCos
from osr.detectors.tracing import Traced, is_traced
from osr.errors import InputError
from osr.outputs import Outputs

CPU = torch.device("cpu")


def test_pnml_of_one_class_and_of_directions_that_training_lacks() -> None:
    none = np.zeros(150, np.int64)
    one = replace(
        TRAIN, logits=TRAIN.logits[:, :1], weight=TRAIN.weight[:1], bias=TRAIN.bias[:1], labels=none
    )
    assert_array_equal(Pnml().fit(one).score(one), np.zeros(150))
    train = outputs([[1, 0, 0], [0, 2, 0], [3, 0, 0]], weight=np.eye(3))
    fitted = Pnml().fit(train)
    assert fitted._state["whitener"].shape == (3, 2)
    images = outputs([[1, 0, 0], [1, 0, 7], [0, 5, 0], [0, 0, 4]], weight=np.eye(3))
    leverage = [1 / 2, 1 / 50 / 2, 1.0, 0]
    directions = images.features / np.linalg.norm(images.features, axis=1, keepdims=True)
    whitened = directions @ fitted._state["whitener"].numpy()
    assert_allclose(np.square(whitened).sum(1), leverage, rtol=1e-6, atol=1e-12)
    p = softmax(images.logits.astype(float), axis=1)
    power = np.array(leverage)[:, None] / (1 + np.array(leverage)[:, None])
    regret = np.log((p / (p + (1 - p) * p**power)).sum(1)) / np.log(3)
    assert_allclose(fitted.score(images), regret, rtol=1e-5, atol=1e-12)


def test_postmax_by_hand_and_without_right_images() -> None:
    ratios = np.array([0.2, 0.5, 0.8, 1.1, 1.7])
    features = np.eye(2)[[0] * 5] * 2
    logits = np.stack([2 * ratios, np.zeros(5)], axis=1)
    train = outputs(features, np.zeros(5), weight=np.zeros((2, 2)), logits=logits)
    location, scale, shape = PostMax().fit(train)._state["fit"].tolist()
    assert location == pytest.approx(0.2)
    right = REFERENCES["postmax"](train, train)
    assert_allclose(PostMax().fit(train).score(train), right, rtol=1e-5, atol=1e-6)
    assert (scale > 0, shape >= -1) == (True, True)
    nothing = replace(train, features=np.zeros_like(train.features))
    assert_allclose(PostMax().fit(train).score(nothing), [1 + 0.2 / scale] * 5, rtol=1e-6)
    wrong = replace(train, labels=np.ones(5, np.int64))
    same = replace(train, logits=np.repeat(train.logits[:1], 5, axis=0))
    for images in (wrong, same):
        with pytest.raises(
            InputError, match="postmax needs correctly classified training images whose largest"
        ):
            PostMax().fit(images)
    half = replace(train, labels=np.array([0, 1, 0, 1, 0]))  # only right ones count
    kept = half.select(np.array([0, 2, 4]))
    assert_allclose(PostMax().fit(half)._state["fit"], PostMax().fit(kept)._state["fit"])


def test_cosines_of_nothing_and_relative_ones_by_hand() -> None:
    train = outputs([[2, 0], [0, 1], [0, 3]], [0, 1, 1])
    test = outputs([[3, 4], [0, 0], [-1, 0]])
    assert_allclose(Cosine().fit(train).score(test), [-0.8, 0, 0], atol=1e-7)
    cosines = np.array([[0.6, 0.8], [0, 0], [-1, 0]])
    assert_allclose(RCos().fit(train).score(test), -softmax(cosines, axis=1).max(1), rtol=1e-7)


def test_klm_of_templates_that_nobody_has() -> None:
    """Class 2 is never predicted, and a test image that is nearest to it goes to another."""
    train = logits_only(np.log([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]))
    test = logits_only(np.log([[0.8, 0.1, 0.1], [0.05, 0.05, 0.9]]))
    p, templates = np.array([0.05, 0.05, 0.9]), np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    expected = (p * np.log(p / templates)).sum(1)
    assert_allclose(Klm().fit(train).score(test), [0, expected.min()], rtol=1e-5, atol=1e-7)
    sure = logits_only([[500.0, 0, 0], [0, 500, 0]])
    found = Klm().fit(sure).score(logits_only(np.zeros((1, 3))))
    log_tiny = np.log(float(np.finfo(np.float32).tiny))
    assert_allclose(found, [-np.log(3) - 2 / 3 * log_tiny], rtol=1e-6)


def test_kplus1_takes_the_largest_extra_class_and_keeps_an_order() -> None:
    images = logits_only([[0.0, 0], [800, 0], [900, 0], [0, 0]])
    images = replace(images, extra_logits=np.array([[0, -1], [-1, 0], [0, 0], [900, 800]], np.float32))
    found = KPlus1().score(images)
    assert_allclose(found[[0, 3]], [1 / 3, 1], rtol=1e-7)
    assert found[1] > found[2] > 0
    assert_allclose(KPlus1().fit(images).score(images), found)


@pytest.mark.parametrize("detector", [Msp(), Entropy(), Gen(gamma=0.1, num_top=5)])
def test_confidence_changes_the_way_but_not_the_score(detector) -> None:
    """On both sides of the sum below which exponentials have lost digits, 1e-30, at a gap of 69.1."""
    gaps = np.linspace(60, 80, 41)
    found = detector.score(logits_only([[gap, 0, 0] for gap in gaps]))
    rest = 2 * np.exp(-gaps)
    right = {"msp": rest / (1 + rest), "entropy": rest * (1 + gaps), "gen": rest**0.1 + 2 * (rest / 2) ** 0.1}
    assert_allclose(found, right[detector.name], rtol=2e-5)
    two = detector.score(logits_only([[0, gap] for gap in gaps]))
    rest = np.exp(-gaps)
    right = {"msp": rest / (1 + rest), "entropy": rest * (1 + gaps), "gen": 2 * rest**0.1}
    assert_allclose(two, right[detector.name], rtol=2e-5)
    one = logits_only([[3.0], [-3.0]])
    assert_array_equal(detector.score(one), [0, 0])


def test_an_ensemble_is_on_the_scale_of_its_training_images() -> None:
    detector = Ensemble(members=(Knn(num_neighbors=3), MaxLogit())).fit(TRAIN)
    scores = [part.fit(TRAIN).score(TRAIN) for part in (Knn(num_neighbors=3), MaxLogit())]
    for name, values in zip(("knn", "maxlogit"), scores, strict=True):
        assert_allclose(
            detector._state[f"{name}.centre_and_deviation"], [values.mean(), values.std()], rtol=1e-6
        )
    assert_allclose(detector.score(TRAIN).mean(), 0, atol=1e-9)
    assert detector.to("cpu") is detector
    other = Ensemble(members=(Knn(num_neighbors=3), MaxLogit()))
    assert other.restore(dict(detector._state), detector._shape) is other
    assert_array_equal(other.score(TEST), detector.score(TEST))
    assert set(other.members[0]._state) == {"bank", "lengths"}
    assert other.members[0]._shape == (5, 24)


@pytest.mark.parametrize(("share", "expected"), [(1e-7, 1.0), (1e-4, None)])
def test_scores_that_are_equal_but_for_rounding_are_not_stretched(share, expected) -> None:
    logits = np.array([[8.0, 0], [8 * (1 + share), 0]])
    train = outputs(np.eye(2), [0, 0], weight=np.zeros((2, 2)), logits=logits)
    state = Ensemble(members=(MaxLogit(), Msp())).fit(train)._state["maxlogit.centre_and_deviation"]
    assert_allclose(state[1], expected or 8 * share / 2, rtol=1e-2)


def test_a_ridge_that_is_too_small_says_so() -> None:
    """Two features that are nearly one, on which float64 fails without a ridge."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(60, 3))
    train = outputs(np.concatenate([base, base], axis=1), np.arange(60) % 2, weight=np.zeros((2, 6)))
    for detector in (Mahalanobis(ridge=1e-30), Rmds(ridge=1e-30)):
        with pytest.raises(
            InputError, match=rf"detectors.{detector.name}.ridge is 1e-30, too small .* or to 1e-6"
        ):
            detector.fit(train)
        assert np.isfinite(type(detector)(ridge=1e-6).fit(train).score(train)).all()


def test_a_chosen_ridge_is_not_used_for_constant_features() -> None:
    """What N images do not show happens in at most about one of N."""
    rng = np.random.default_rng(0)
    features = np.pad(rng.normal(size=(9, 6)), ((0, 0), (0, 1)))
    train = outputs(features, np.arange(9) % 3, weight=np.zeros((3, 7)))
    fitted = Mahalanobis(ridge="auto").fit(train)
    ridge = float(fitted._state["ridge"])
    assert ridge > 1 / 9
    within = features - np.stack([features[c::3].mean(0) for c in range(3)])[np.arange(9) % 3]
    variance = np.square(within).sum(0) / 9
    still, moved = (outputs(np.pad([means], ((0, 0), (0, 0))), weight=np.zeros((3, 7)))
                    for means in (features[0::3].mean(0), features[0::3].mean(0) + np.eye(7)[6]))  # fmt: skip
    assert_allclose(fitted.score(moved) - fitted.score(still), [9 / variance.mean()], rtol=1e-5)
    given = Mahalanobis(ridge=0.5).fit(train)
    assert_allclose(given.score(moved) - given.score(still), [2 / variance.mean()], rtol=1e-5)


def test_ridges_are_a_quarter_of_a_decade_apart_and_the_largest_of_equals_is_taken() -> None:
    assert_allclose(shrinkage.RIDGES, np.logspace(-6, 2, 33))
    train = outputs([[1, 0], [-1, 0], [0, 1], [0, -1]], [0, 0, 1, 1])
    images = Images(train, None, CPU)
    chosen = shrinkage.held_out_ridge(Sample.of(images, 4096), Moments.of_classes(images), "rmds")
    assert chosen in shrinkage.RIDGES


def tails_of(**changes) -> Tails:
    settings = {"distance": "euclidean", "correct_only": True, "tail": 3, "alone": False} | changes
    return Tails.of(Images(TRAIN, None, CPU), "features", **settings)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "eucos"])
@pytest.mark.parametrize("correct_only", [True, False])
def test_a_tail_holds_the_furthest_images_of_each_class(distance, correct_only) -> None:
    found = tails_of(distance=distance, correct_only=correct_only, alone=True)
    keep = TRAIN.correct if correct_only else np.ones(150, bool)
    for label in range(5):
        values = TRAIN.features[keep & (TRAIN.labels == label)].astype(float)
        mean = values.mean(0)
        straight = np.linalg.norm(values - mean, axis=1)
        turned = 1 - values @ mean / np.linalg.norm(values, axis=1) / np.linalg.norm(mean)
        gaps = {"euclidean": straight, "cosine": turned, "eucos": straight / 200 + turned}[distance]
        furthest = np.sort(gaps)
        assert_allclose(np.sort(found.distances[found.labels == label]), furthest[-3:], rtol=1e-9, atol=1e-14)
        assert_allclose(found.reach[label], furthest[-4], rtol=1e-9, atol=1e-14)
        assert_allclose(found.means[label], mean, rtol=1e-6)
    assert (found.kept, len(found.values)) == (3, 0)


def test_a_shard_keeps_as_many_images_as_fit_and_four_tails_at_least(monkeypatch) -> None:
    monkeypatch.setattr(tails, "_BYTES", 4 * 5 * 24 * 17)
    assert tails_of().kept == 17
    assert tails_of(tail=5).kept == 20
    found = tails_of(tail=5)
    assert found.values.shape == (len(found.labels), 24)
    rows = {row.tobytes() for row in TRAIN.features}
    assert {row.tobytes() for row in found.values.numpy()} <= rows
    whole = tails_of(tail=50)
    assert len(whole.labels) == TRAIN.correct.sum()
    assert (whole.reach == -torch.inf).all()


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "eucos"])
@pytest.mark.parametrize("ends", [(50, 100), (8, 16)])
def test_what_was_left_out_lies_no_further_than_is_said(distance, ends) -> None:
    """The bound that merging keeps holds for all images, from the mean of all, and is not far above.

    Of eight images of five classes hardly one is left out, so that its class has no bound yet.
    """
    shards = [TRAIN.select(rows) for rows in np.split(np.arange(150), ends)]
    settings = {"distance": distance, "correct_only": False, "tail": 2, "alone": False}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tails, "_BYTES", 0)
        patched.setattr(tails, "_TIMES", 1)
        one, two, three = (Tails.of(Images(shard, None, CPU), "features", **settings) for shard in shards)
    merged = one.merge(two).merge(three)
    whole = tails_of(distance=distance, correct_only=False, tail=30, alone=True)
    assert_allclose(merged.means, whole.means, rtol=1e-9)
    assert merged.kept == 2
    for label in range(5):
        gaps = np.sort(whole.distances[whole.labels == label])
        assert gaps[-3] <= float(merged.reach[label]) * (1 + 1e-12)
        assert float(merged.reach[label]) < 2.5 * gaps[-1]
        assert_allclose(np.sort(merged.distances[merged.labels == label])[-1:], gaps[-1:], rtol=1e-6)


def test_openmax_has_the_published_order_of_ranks() -> None:
    fitted = OpenMax(**DEFAULTS | {"tail_size": 5, "alpha": 3}).fit(TRAIN)
    assert_allclose(fitted.score(TEST), REFERENCES["openmax"](TRAIN, TEST, tail_size=5, alpha=3), rtol=1e-5)
    assert_array_equal(fitted.score(TEST), fitted.probabilities(TEST)[:, -1])
    at_mean = logits_only([[4.0, 0], [5, 0], [2, 0], [5, 0], [0, 4], [0, 5], [0, 2], [0, 5]])
    told = "class 0: the 4 largest distances to its mean range from 0 to 2, but must be above 0 and must"
    with pytest.raises(InputError, match=told):
        OpenMax(**DEFAULTS | {"tail_size": 4}).fit(at_mean)
    with pytest.raises(InputError, match="openmax was fitted on"):
        fitted.probabilities(logits_only(np.zeros((1, 2))))


def test_the_way_of_a_graph_gives_the_scores_of_the_library(monkeypatch) -> None:
    """Those that take another way in a graph, on very confident images and on features of nothing, too."""
    sure = replace(
        TEST, logits=100 * TEST.logits, features=np.where(np.arange(80)[:, None] % 9, TEST.features, 0)
    )
    rows = np.arange(160) % 80
    test: Outputs = replace(TEST.select(rows), logits=np.concatenate([TEST.logits, sure.logits]))
    detectors = [Msp(), Entropy(), Gen(gamma=0.1, num_top=3), KPlus1(), Ash(variant="S", pruned_fraction=0.5)]
    detectors += [Knn(num_neighbors=2), Relation(power=2.0, bank_fraction=1.0), Klm()]
    detectors += [
        Ensemble(members=(MaxLogit(), Knn(num_neighbors=150))),
        OpenMax(**DEFAULTS | {"tail_size": 5}),
    ]
    fitted = [detector.fit(TRAIN) for detector in detectors]
    names = ("logits", "features", "extra_logits", "weight", "bias")
    given = tuple(torch.from_numpy(np.ascontiguousarray(getattr(test, name))) for name in names)
    traced, right = Traced(*given), [detector.score(test) for detector in fitted]
    monkeypatch.setattr(
        torch.compiler, "is_compiling", lambda: True
    )  # tests/test_onnx.py records real graphs
    assert is_traced()
    for detector, expected in zip(fitted, right, strict=True):
        found = detector.score_traced(traced)
        assert found.dtype == torch.float64
        assert_allclose(found, expected, rtol=1e-5, atol=1e-9 * np.ptp(expected), err_msg=detector.name)
    assert [traced.labels.shape, traced.odin.shape, traced.rotation.shape] == [(0,), (160, 0), (160, 0)]
