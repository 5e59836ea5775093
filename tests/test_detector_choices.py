"""Each setting of each detector, away from its default: against the references in float64, and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detector_references import REFERENCES
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from test_detector_formulas import outputs
from test_hard_features import drawn

from osr.detectors import vim
from osr.detectors.activations import Ash, Dice, React, Scale
from osr.detectors.boundaries import Fdbd, Nci
from osr.detectors.chunks import Images
from osr.detectors.neco import Neco
from osr.detectors.neighbors import Knn, NNGuide, Relation, _drawn
from osr.detectors.registry import DETECTORS
from osr.detectors.vim import Residual, Vim
from osr.errors import InputError

CPU = torch.device("cpu")
TRAIN, TEST = drawn()  # 150 and 80 images, 5 classes, 24 features
CHOICES = {
    "gen": [{"gamma": 0.5, "num_top": 1}, {"gamma": 0.9, "num_top": 4}, {"gamma": 0.1, "num_top": 5}],
    "mav": [{"space": "features"}, {"space": "logits"}],
    "mahalanobis": [{"ridge": 1e-3}, {"ridge": 1.0, "normalize": True}, {"ridge": 100.0}],
    "rmds": [{"ridge": 1e-3}, {"ridge": 1.0, "normalize": True}, {"ridge": 100.0}],
    "knn": [{"num_neighbors": count} for count in (1, 2, 149, 150)],
    "nnguide": [{"num_neighbors": 1}, {"num_neighbors": 150}],
    "vim": [{"dimension": size} for size in (1, 12, 23)],
    "residual": [{"dimension": size} for size in (1, 12, 23)],
    "react": [{"quantile": 0.5, "lower_quantile": 0.2}, {"quantile": 0.99, "lower_quantile": 0.9}],
    "ash": [{"pruned_fraction": share} for share in (0.01, 0.02, 0.5, 0.97)],
    "scale": [{"pruned_fraction": share} for share in (0.01, 0.02, 0.5, 0.97)],
    "dice": [{"masked_fraction": share} for share in (0.01, 0.9, 0.99)],
    "nci": [{"alpha": share} for share in (0.0, 1.0, 30.0)],
    "relation": [{"power": power} for power in (0.5, 1.0, 3.0)],
    "neco": [{"dimension": size, "by_maxlogit": by} for size in (1, 12, 23) for by in (True, False)],
}
OURS = {
    "nnguide": {"bank_fraction": 1.0},
    "relation": {"bank_fraction": 1.0},
    "ash": {"variant": "S"},
}


@pytest.mark.parametrize(
    ("name", "chosen"), [(name, chosen) for name, several in CHOICES.items() for chosen in several], ids=str
)
def test_each_setting_is_that_of_the_reference(name: str, chosen: dict) -> None:
    found = DETECTORS[name](**chosen, **OURS.get(name, {})).fit(TRAIN).score(TEST)
    right = REFERENCES[name](TRAIN, TEST, **chosen)
    assert_allclose(found, right, rtol=1e-5, atol=1e-5 * np.ptp(right))


def test_two_settings_give_two_answers() -> None:
    for name, several in CHOICES.items():
        scores = [
            DETECTORS[name](**chosen, **OURS.get(name, {})).fit(TRAIN).score(TEST) for chosen in several[:2]
        ]
        same = name in ("ash", "scale")  # of 24 features 0.01 and 0.02 both leave all
        assert np.array_equal(*scores) == same, name


@pytest.mark.parametrize(
    ("variant", "kept"),
    [
        ("P", [2, 0, 2, 5]),
        ("S", np.array([2, 0, 2, 5]) * np.exp(10 / 9)),
        ("B", np.array([1, 0, 1, 1]) * 10 / 3),
    ],
)
def test_features_as_large_as_the_last_that_stays_stay_too(variant: str, kept: list[float]) -> None:
    images = outputs([[2, 1, 2, 5]], weight=0.1 * np.eye(4), bias=[0.1, 0.2, 0.3, 0.4])
    expected = -logsumexp(0.1 * np.asarray(kept) + images.bias)
    assert_allclose(Ash(variant=variant, pruned_fraction=0.5).score(images), [expected], rtol=1e-6)


@pytest.mark.parametrize("share", [0.9, 0.99, 0.9999])
def test_one_feature_stays_at_least(share: float) -> None:
    images = outputs([[1, 2, 3, 4]], weight=0.1 * np.eye(4))
    for variant, kept in (("P", 4), ("S", 4 * np.exp(10 / 4)), ("B", 10)):
        expected = -logsumexp([0, 0, 0, 0.1 * kept])
        assert_allclose(Ash(variant=variant, pruned_fraction=share).score(images), [expected], rtol=1e-6)
    expected = -logsumexp(0.1 * np.arange(1, 5) * np.exp(10 / 4))
    assert_allclose(Scale(pruned_fraction=share).score(images), [expected], rtol=1e-6)


def test_shaping_of_nothing_and_of_negative_features() -> None:
    zero = outputs(np.zeros((1, 4)), weight=np.eye(4), bias=[1, 0, 0, 0])
    expected = -logsumexp([1, 0, 0, 0])
    for detector in (*(Ash(variant=one, pruned_fraction=0.5) for one in "SBP"), Scale(pruned_fraction=0.5)):
        assert_allclose(detector.score(zero), [expected], rtol=1e-6)
    negative = outputs([[-1.0, 2]])
    assert_allclose(Ash(variant="P", pruned_fraction=0.5).fit(negative).score(negative), [-logsumexp([0, 2])])
    for detector in (Ash(variant="B", pruned_fraction=0.5), Ash(variant="S", pruned_fraction=0.5)):
        with pytest.raises(InputError, match=r"ash is defined .* down to -1: use model.neck.name: linear"):
            detector.score(negative)


def test_dice_leaves_out_what_contributes_as_much_as_the_bound() -> None:
    """Contributions 1, 1, 1, 4: their median is 1, and only what is above stays."""
    weight = [[1, 1], [1, 4]]
    train = outputs([[1, 1]], weight=weight)
    found = Dice(masked_fraction=0.5).fit(train).score(outputs([[1, 1]], weight=weight))
    assert_allclose(found, [-np.logaddexp(0, 4)], rtol=1e-6)


def test_react_clips_below_only_if_asked() -> None:
    train = outputs(np.arange(-5.0, 6)[:, None], np.zeros(11), weight=[[1], [0]])
    test = outputs([[-20.0], [20.0]], weight=[[1], [0]])
    found = React(quantile=0.9).fit(train)
    assert_allclose(found.score(test), [-np.logaddexp(-20, 0), -np.logaddexp(4, 0)], rtol=1e-6, atol=1e-8)
    assert set(found._state) == {"clip"}
    both = React(quantile=0.9, lower_quantile=0.1).fit(train)
    assert_allclose(both.score(test), [-np.logaddexp(-4, 0), -np.logaddexp(4, 0)], rtol=1e-5)


@pytest.mark.parametrize(("gap", "counts"), [(1e-9, False), (1e-4, True)])
def test_fdbd_counts_rows_that_are_apart(gap: float, counts: bool) -> None:
    """Three rows; the third is the first but for a gap, and has a logit 3 below."""
    weight = np.array([[1.0, 0], [-1, 0], [1 + gap, 0]])
    train = outputs([[1, 1], [-1, -1]], [0, 1], weight=weight)
    test = outputs([[0, 2]], [0], weight=weight, logits=np.array([[4.0, 0, 1]]))
    near, far = 4 / 2, 3 / float(np.float32(1 + gap) - np.float32(1)) if counts else 0
    expected = -((near + far) / 2 if counts else near) / 2
    assert_allclose(Fdbd().fit(train).score(test), [expected], rtol=1e-4)


def test_an_image_at_the_mean_has_a_number() -> None:
    train, middle = outputs([[1, 0], [-1, 0]]), outputs([[0, 0]])
    assert_array_equal(Fdbd().fit(train).score(middle), [0])
    assert_array_equal(Nci(alpha=1.0).fit(train).score(middle), [0])
    found = Nci(alpha=0.5).fit(train).score(outputs([[0, 3]]))
    assert_allclose(found, [-(1 + 0.5 * 3)], rtol=1e-6)
    moved = outputs([[2, 1], [4, 1]])
    assert_allclose(Nci(alpha=0.0).fit(moved).score(outputs([[3, 5]])), [-1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("spectrum", "kept"),
    [([8.9, 1.1], 1), ([9.0, 1.0, 0], 1), ([8.9, 1.1, 0], 2), ([1, 1, 1, 1], 3), ([1] * 20, 18), ([5], 1)],
)
def test_neco_keeps_as_few_directions_as_hold_nine_tenths(spectrum: list[float], kept: int) -> None:
    detector = Neco(dimension="auto", by_maxlogit=False)
    assert detector._kept(torch.tensor(spectrum, dtype=torch.float64)) == kept
    assert Neco(dimension=7, by_maxlogit=False)._kept(torch.ones(9)) == 7


def test_neco_refusals_and_features_that_hardly_vary() -> None:
    for size in (24, 25):
        with pytest.raises(InputError, match=rf"neco keeps {size} .* only 24 features.* Set it below 24, or"):
            Neco(dimension=size, by_maxlogit=False).fit(TRAIN)
    still = outputs(np.full((4, 3), 7.0), np.zeros(4), weight=np.eye(3))
    with pytest.raises(InputError, match="neco needs training features that vary; these are constant"):
        Neco(dimension="auto", by_maxlogit=False).fit(still)
    features = np.full((4, 3), 7.0)
    features[:, 1] = [1, 2, 3, 4]
    fitted = Neco(dimension=1, by_maxlogit=False).fit(outputs(features, np.zeros(4), weight=np.eye(3)))
    assert_allclose(fitted._state["factors"], [1, 1.25**-0.5, 1])
    assert_allclose(fitted.score(outputs([[7, 9, 7]], weight=np.eye(3))), [-1])


@pytest.mark.parametrize(("images", "expected"), [(150, 12), (24, 12), (20, 10), (3, 1), (1, 1)])
def test_vims_own_dimension_is_half_the_features_or_the_images(images: int, expected: int) -> None:
    fitted = Residual(dimension="auto").fit(TRAIN.select(np.arange(images))) if images > 1 else None
    if fitted is not None:
        assert fitted._state["minor"].shape == (24, 24 - expected)
    found = type("Found", (), {"weight": TRAIN.weight, "count": images})()
    assert vim._dimension("auto", found, "vim") == expected
    assert vim._dimension(23, found, "vim") == 23


def test_vims_alpha_makes_the_mean_residual_the_mean_largest_logit() -> None:
    state = Vim(dimension=5).fit(TRAIN)._state
    residual = np.linalg.norm((TRAIN.features - state["origin"].numpy()) @ state["minor"].numpy(), axis=1)
    assert_allclose(
        float(state["alpha"]) * residual.mean(), TRAIN.logits.max(1).astype(float).mean(), rtol=1e-9
    )
    lowered = replace(TRAIN, logits=TRAIN.logits - 1000, bias=TRAIN.bias - 1000)
    state = Vim(dimension=5).fit(lowered)._state
    residual = np.linalg.norm((TRAIN.features - state["origin"].numpy()) @ state["minor"].numpy(), axis=1)
    above = (lowered.logits.max(1).astype(float) - lowered.logits.astype(float).mean()).mean()
    assert_allclose(float(state["alpha"]) * residual.mean(), above, rtol=1e-6)


def test_vims_logits_must_differ() -> None:
    flat = replace(TRAIN, logits=np.full_like(TRAIN.logits, -3.0))
    with pytest.raises(InputError, match="but these are all -3, like the other logits: leave vim out"):
        Vim(dimension=5).fit(flat)
    assert Vim(dimension=5).fit(replace(flat, logits=np.full_like(TRAIN.logits, 3.0))).score(TEST).shape == (
        80,
    )


@pytest.mark.parametrize(("fraction", "at_least", "expected"), [(1.0, 1, 150), (0.1, 1, 15), (0.01, 1, 2),
                         (0.001, 1, 1), (0.001, 7, 7), (0.99, 149, 149), (0.999, 1, 150)])  # fmt: skip
def test_a_bank_has_its_share_of_the_images_in_their_order(fraction, at_least, expected) -> None:
    images = Images(TRAIN, None, CPU)
    chosen = _drawn(images, fraction, at_least, 3)
    assert len(chosen) == expected
    assert (np.diff(chosen.rows) > 0).all()
    assert (chosen is images) == (expected == 150)
    if 1 < expected < 150:
        assert not np.array_equal(chosen.rows, np.arange(expected))
        assert not np.array_equal(chosen.rows, _drawn(images, fraction, at_least, 4).rows)


def test_banks_are_drawn_as_their_settings_say() -> None:
    parts = [Knn(num_neighbors=3, bank_fraction=0.1), Relation(power=1.0, bank_fraction=0.1)]
    for detector in parts:
        found = {row.tobytes() for row in detector.fit(TRAIN)._state["bank"].numpy()}
        rows = _drawn(Images(TRAIN, None, CPU), 0.1, 1, 0).rows
        features = TRAIN.features[rows]
        if isinstance(detector, Relation):
            features = features.astype(float) / np.linalg.norm(features.astype(float), axis=1, keepdims=True)
        assert found == {row.tobytes() for row in features.astype(np.float32)}
    guides = [NNGuide(num_neighbors=4, bank_fraction=1e-9).fit(TRAIN) for _ in range(2)]
    assert [guide._state["bank"].shape for guide in guides] == [(4, 24)] * 2
    assert torch.equal(guides[0]._state["bank"], guides[1]._state["bank"])
    for make in (
        lambda: Knn(num_neighbors=151),
        lambda: NNGuide(num_neighbors=151, bank_fraction=1.0),
    ):
        with pytest.raises(
            InputError, match=r"looks at 151 nearest .*num_neighbors\), but there are only 150"
        ):
            make().fit(TRAIN)
