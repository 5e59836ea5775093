"""What breaks detectors elsewhere, by name over the registry: each gives numbers or one clear sentence."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_detectors import NAMES, assert_close, known, make, settings

from osr.detectors import neighbors
from osr.detectors.contract import FEATURES
from osr.detectors.ensemble import Ensemble
from osr.detectors.logit_scores import Energy, KPlus1, MaxLogit, Msp
from osr.detectors.openmax import OpenMax
from osr.detectors.registry import DETECTORS, _restored, build_detectors, load_detector
from osr.detectors.vim import default_dimension
from osr.errors import InputError
from osr.outputs import BACKGROUND, Outputs


def one_class(outputs: Outputs) -> Outputs:
    """The images of class 0 as a network with one class sees them."""
    chosen = outputs.select(outputs.labels == 0)
    return replace(
        chosen,
        logits=chosen.logits[:, :1],
        weight=chosen.weight[:1],
        bias=chosen.bias[:1],
        index=chosen.index,
    )


@pytest.mark.parametrize("name", NAMES)
def test_one_known_class(name: str) -> None:
    scores = make(name).fit(one_class(known(0))).score(one_class(known(1)))
    assert np.isfinite(scores).all()


REFUSES_ONE_IMAGE = {
    "openmax": "class 0 has 1",
    "mav": "class 1 has 0",
    "she": "class 1 has 0",
    "mahalanobis": "class 1 has 0",
    "rmds": "class 1 has 0",
    "cosine": "class 1 has 0",
    "rcos": "class 1 has 0",
    "knn": "there are only 1",
    "nnguide": "there are only 1",
    "vim": "no residual",
    "residual": "no residual",
    "neco": "these are constant",
    "postmax": "these do not",
    "ensemble": "class 1 has 0",
}


@pytest.mark.parametrize("name", NAMES)
def test_one_training_image(name: str) -> None:
    image = known(0).select(np.array([0]))
    if name in REFUSES_ONE_IMAGE:
        with pytest.raises(InputError, match=REFUSES_ONE_IMAGE[name]):
            make(name).fit(image)
    else:
        assert np.isfinite(make(name).fit(image).score(known(1))).all()


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_the_same_numbers(name: str) -> None:
    def to(dtype: type, outputs: Outputs) -> Outputs:
        names = ("logits", "features", "weight", "bias", "extra_logits")
        return replace(outputs, **{key: getattr(outputs, key).astype(dtype) for key in names})

    train, test = to(np.float16, known(0)), to(np.float16, known(1))
    half = make(name).fit(train).score(test)
    assert_array_equal(half, make(name).fit(to(np.float32, train)).score(to(np.float32, test)))


@pytest.mark.parametrize("name", NAMES)
def test_no_number_comes_of_a_nan(name: str) -> None:
    train, test = known(0), known(1)
    for value in (np.nan, np.inf):
        with pytest.raises(InputError, match="NaN or infinity"):
            replace(test, logits=np.full_like(test.logits, value))
    detector = make(name).fit(train)
    test.logits[5], test.features[5], test.odin[5], test.rotation[5] = (
        np.nan,
    ) * 4  # behind the back of Outputs
    with pytest.raises(InputError, match=r"image 5|not finite"):
        detector.score(test)


@pytest.mark.parametrize("name", NAMES)
def test_a_zero_feature_vector_in_training(name: str) -> None:
    train = known(0)
    train.features[::7] = 0
    train.logits[::7] = train.bias
    assert np.isfinite(make(name).fit(train).score(known(1))).all()


@pytest.mark.parametrize("name", NAMES)
def test_arrays_in_any_memory_order(name: str) -> None:
    """Fortran order, every other row, and rows backwards."""

    def laid_out(outputs: Outputs, change) -> Outputs:
        return replace(outputs, features=change(outputs.features), logits=change(outputs.logits))

    train, test = known(0), known(1)
    expected = make(name).fit(train).score(test)
    detector = make(name).fit(laid_out(train, np.asfortranarray))
    assert_close(detector.score(laid_out(test, np.asfortranarray)), expected)
    assert_close(detector.score(test.select(slice(None, None, -1)))[::-1], expected)
    assert_close(detector.score(test.select(slice(0, None, 2))), expected[::2])


def test_vims_default_dimension_is_the_published_one() -> None:
    found = [default_dimension(width) for width in (2560, 2048, 1024, 768, 767, 512, 128)]
    assert found == [1000, 1000, 512, 512, 383, 256, 64]


@pytest.mark.parametrize("name", NAMES)
def test_equal_images_score_equally(name: str) -> None:
    same = known(1).select(np.zeros(7, dtype=int))
    scores = make(name).fit(known(0)).score(same)
    assert np.ptp(scores) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_tiny_and_huge_logits_give_numbers(name: str, scale: float) -> None:
    train = known(0, scale=scale)
    assert np.isfinite(make(name).fit(train).score(train)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_head_without_bias_on_unit_vectors(name: str) -> None:
    """A cosine head: features of length 1 that may be negative, and no bias."""

    def cosine(outputs: Outputs) -> Outputs:
        features = outputs.features - outputs.features.mean(1, keepdims=True)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        weight = 16 * outputs.weight / np.linalg.norm(outputs.weight, axis=1, keepdims=True)
        return replace(
            outputs,
            features=features,
            weight=weight,
            bias=np.zeros_like(outputs.bias),
            logits=features @ weight.T,
        )

    train, test = cosine(known(0)), cosine(known(1))
    if name in {"ash", "scale"}:
        with pytest.raises(InputError, match=f"{name} is defined for features behind a ReLU"):
            make(name).fit(train)
    else:
        assert np.isfinite(make(name).fit(train).score(test)).all()


def test_vim_refuses_as_many_directions_as_features() -> None:
    wide = settings().vim.model_copy(update={"dimension": FEATURES})
    chosen = settings().model_copy(update={"enabled": ("vim",), "vim": wide})
    with pytest.raises(InputError, match=f"vim keeps {FEATURES} .* has only {FEATURES} features"):
        build_detectors(chosen)["vim"].fit(known(0))


def test_kplus1_by_hand() -> None:
    outputs = known(0).select(np.arange(2))
    outputs = replace(
        outputs,
        logits=np.log(np.array([[1, 2] + [1e-30] * 8, [4, 4] + [1e-30] * 8], np.float32)),
        extra_logits=np.log(np.array([[1, 0.5], [2, 8]], np.float32)),
    )
    assert_allclose(KPlus1().score(outputs), [1 / 4, 8 / 16], rtol=1e-6)


def test_kplus1_refuses_a_network_without_an_extra_class() -> None:
    without = replace(known(0), extra_logits=np.empty((0, 0), np.float32))
    for call in (KPlus1().fit, KPlus1().score, Ensemble(members=(Msp(), KPlus1())).fit):
        with pytest.raises(InputError, match=r"kplus1 reads the extra class .*model.head.extra_classes is 0"):
            call(without)


def test_ensemble_by_hand() -> None:
    def images(logits: np.ndarray) -> Outputs:
        array = logits.astype(np.float32)
        zeros = np.zeros(len(array), np.int64)
        return Outputs(array, array, zeros, zeros, np.eye(2, dtype=np.float32), np.zeros(2, np.float32))

    train, new = np.array([[5, 0], [3, 0], [2, 2], [2, 1]]), np.array([[4, 0], [0, 0], [-9, 1]])
    detector = Ensemble(members=(MaxLogit(), Msp())).fit(images(train))
    scaled = (new.max(axis=1) - 3) / np.sqrt(1.5)
    seen, found = (1 / (1 + np.exp(-np.abs(logits @ [1, -1]))) for logits in (train, new))
    assert_allclose(
        detector.score(images(new)), -(scaled + (found - seen.mean()) / seen.std()) / 2, rtol=1e-5
    )


def test_ensemble_of_a_score_that_all_training_images_share() -> None:
    """It is not divided by nothing, nor by rounding."""
    logits = np.array([[3, 0], [0, 3], [3, 1e-9]], np.float32)
    labels = np.array([0, 1, 0])
    train = Outputs(logits, logits, labels, labels, np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    detector = Ensemble(members=(MaxLogit(), Energy(temperature=1.0))).fit(train)
    assert_allclose(detector.score(train), 0, atol=1e-6)


def test_ensemble_members_keep_their_settings_in_the_file(tmp_path) -> None:
    near = settings().knn.model_copy(update={"num_neighbors": 7})
    members = settings().ensemble.model_copy(update={"members": ("knn", "openmax", "energy")})
    chosen = settings().model_copy(update={"enabled": ("ensemble",), "knn": near, "ensemble": members})
    detector = build_detectors(chosen)["ensemble"].fit(known(0))
    detector.save(tmp_path / "ensemble")
    loaded = load_detector(tmp_path / "ensemble")
    assert loaded.settings() == detector.settings()
    assert loaded.settings()["members"]["knn"] == {"num_neighbors": 7, "bank_fraction": 1.0}
    assert_array_equal(loaded.score(known(1)), detector.score(known(1)))


def test_an_ensemble_takes_over_what_its_members_have_learned_beside_it(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = make("ensemble").fit(known(0)).save(tmp_path / "ensemble")
    beside, other = [make(name).fit(known(0)) for name in ("vim", "rmds")], make("rmds").fit(known(1))
    other.ridge = 0.5
    for detector in beside:
        monkeypatch.setattr(type(detector), "_fit", None)
    assert make("ensemble").fit(known(0), beside=[other, *beside]).save(tmp_path / "ensemble") == alone
    with pytest.raises(TypeError):  # none of the same settings
        make("ensemble").fit(known(0), beside=[other, beside[0]])


def test_ensemble_names_the_member_whose_score_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Ensemble(members=(MaxLogit(), Msp())).fit(known(0))
    monkeypatch.setattr(MaxLogit, "_score", lambda _self, batch: batch.logits.amax(1) * np.nan)
    with pytest.raises(InputError, match="ensemble: maxlogit gives a score that is not finite"):
        detector.score(known(1))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "openmax"])
def test_a_score_has_a_docstring_with_its_source(name: str) -> None:
    text = DETECTORS[name].__doc__ or ""
    assert any(year in text for year in map(str, range(2016, 2027))) or name in {"entropy", "ensemble"}


def test_openmax_refuses_a_class_with_fewer_correct_images_than_its_tail() -> None:
    train = known(0)
    wrong = np.flatnonzero(train.labels == 4)[:45]
    train.logits[wrong] = np.roll(train.logits[wrong], 1, axis=1)
    chosen = settings().openmax.model_dump()
    with pytest.raises(InputError, match=r"openmax needs 20 correctly .*class 4 has 15"):
        OpenMax(**chosen).fit(train)


@pytest.mark.parametrize("name", ["mahalanobis", "rmds"])
def test_a_file_older_than_a_setting_means_what_it_meant(name: str) -> None:
    assert _restored(name, {"ridge": 0.5}).settings() == {"ridge": 0.5, "normalize": False}


@pytest.mark.parametrize("name", ["knn", "relation", "nnguide"])
def test_a_bank_is_that_share_of_the_known_images(name: str) -> None:
    train = known(0)
    train.labels[::2] = BACKGROUND
    detector = make(name)
    detector.bank_fraction = 0.25
    bank = detector.fit(train)._state["bank"].numpy()
    assert len(bank) == 75
    whole = make(name)
    whole.bank_fraction = 1.0
    rows = {row.tobytes() for row in whole.fit(train)._state["bank"].numpy()}
    assert {row.tobytes() for row in bank} < rows
    assert np.isfinite(detector.score(known(1))).all()


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_relation_comes_in_over_a_thousandth_of_the_threshold(
    power: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = known(0).select(np.arange(1))
    detector = make("relation")
    detector.power = power
    monkeypatch.setattr(neighbors, "THRESHOLD", 1e-9)
    detector.fit(images)
    whole = -detector.score(images)[0]  # of the image with itself
    for share, counted in ((1.1, 0.0), (1 + 1e-7, 0.0), (1 - 1e-6, 1e-3), (1 / 1.0005, 0.5), (0.9985, 1.0)):
        monkeypatch.setattr(neighbors, "THRESHOLD", whole ** (1 / power) * share)
        assert_allclose(-detector.score(images)[0] / whole, counted, rtol=1e-2, atol=1e-6)
