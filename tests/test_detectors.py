"""The contract every registered detector keeps."""

import subprocess
import sys
from copy import deepcopy
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax

from osr.detectors import chunks
from osr.detectors.base import Detector, NotFittedError
from osr.detectors.registry import DETECTORS, build_detectors, load_detector
from osr.detectors.settings import DetectorName, DetectorsSettings
from osr.errors import InputError
from osr.outputs import BACKGROUND, UNKNOWN, Outputs
from osr.params import load_params

ROOT = Path(__file__).parents[1]
CLASSES, FEATURES, PER_CLASS = 10, 40, 60
NAMES = list(DETECTORS)
LEARNING = [name for name in NAMES if DETECTORS[name].needs_fit]

SAVE_ALL = """
import sys, test_detectors as t
from pathlib import Path
for name in t.NAMES:
    t.make(name).fit(t.known(0)).save(Path(sys.argv[1]) / name)
"""


def outputs_of(features: np.ndarray, labels: np.ndarray, *, scale: float = 1.0) -> Outputs:
    weight = np.kron(np.eye(CLASSES), np.ones(FEATURES // CLASSES)) - 0.1
    weight = (scale * (weight + 0.01 * np.random.default_rng(99).normal(size=weight.shape))).astype(
        np.float32
    )
    bias = (scale * np.linspace(-0.2, 0.2, CLASSES)).astype(np.float32)
    features = features.astype(np.float32)
    logits = features @ weight.T + bias
    extra = np.full((len(labels), 1), 6 * scale, np.float32)
    odin = -softmax(logits.astype(np.float64) / 1000, axis=1).max(axis=1, keepdims=True)
    turns = np.linspace(0, 0.1, len(labels))[:, None]
    return Outputs(
        logits, features, labels.astype(np.int64), np.arange(len(labels)), weight, bias, extra, odin, turns
    )


def known(seed: int, *, scale: float = 1.0) -> Outputs:
    """Class c activates its own block of features."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(CLASSES), PER_CLASS)
    blocks = np.kron(np.eye(CLASSES), np.ones(FEATURES // CLASSES))
    features = np.maximum(5 * blocks[labels] + 0.5 * rng.normal(size=(len(labels), FEATURES)), 0)
    return outputs_of(features, labels, scale=scale)


def unknown(seed: int) -> Outputs:
    """One weak feature from each of two blocks."""
    rng = np.random.default_rng(seed)
    features = 0.05 * np.abs(rng.normal(size=(90, FEATURES)))
    width = FEATURES // CLASSES
    for row in features:
        row[width * rng.choice(CLASSES, 2, replace=False)] = 2
    return outputs_of(features, np.full(90, UNKNOWN))


@cache
def settings() -> DetectorsSettings:
    return load_params(ROOT / "params.yaml").detectors


def make(name: str) -> Detector:
    return build_detectors(settings().model_copy(update={"enabled": (name,)}))[name]


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * np.ptp(expected))


@pytest.fixture(params=NAMES)
def fitted(request: pytest.FixtureRequest) -> Detector:
    return make(request.param).fit(known(0))


def test_one_list_of_names() -> None:
    assert set(DETECTORS) == set(get_args(DetectorName))
    sections = set(DetectorsSettings.model_fields) - {
        "enabled",
        "threshold_rule",
        "target_acceptance",
        "target_false_acceptance",
    }
    with_settings = {name for name, cls in DETECTORS.items() if any(entry.init for entry in fields(cls))}
    assert sections == with_settings
    for name, cls in DETECTORS.items():
        assert cls.name == name
        if name in sections:
            schema = DetectorsSettings.model_fields[name].annotation
            assert set(schema.model_fields) == {entry.name for entry in fields(cls) if entry.init}


def test_scores_are_one_finite_float64_per_image(fitted: Detector) -> None:
    scores = fitted.score(known(1))
    assert scores.shape == (CLASSES * PER_CLASS,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


def test_unknown_images_score_higher(fitted: Detector) -> None:
    known_scores, unknown_scores = fitted.score(known(1)), fitted.score(unknown(2))
    # OpenMax rejects a part of the known images by design: those in the tail its Weibull was fitted to. What
    # these unknown images have lies in the directions that the residual leaves out.
    weak = fitted.name in {"openmax", "residual"}
    assert (unknown_scores[:, None] > known_scores).mean() > (0.85 if weak else 0.99)


def test_scores_depend_on_the_image_alone(fitted: Detector) -> None:
    images = known(1)
    expected = fitted.score(images)
    order = np.random.default_rng(0).permutation(len(images))
    assert_close(fitted.score(images.select(order)), expected[order])
    alone = np.concatenate([fitted.score(images.select(np.array([row]))) for row in range(12)])
    assert_close(alone, expected[:12])
    assert fitted.score(images.select(np.array([], dtype=int))).shape == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_chunk_size_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = make(name).fit(known(0)).score(known(1))
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", 19_000)
    assert_close(make(name).fit(known(0)).score(known(1)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_stay_and_refitting_gives_the_same(name: str) -> None:
    train, test = known(0), known(1)
    before = deepcopy((train, test))
    detector = make(name)
    expected = detector.fit(train).score(test)
    assert_array_equal(detector.score(test), expected)
    assert_array_equal(detector.fit(known(5)).fit(train).score(test), expected)
    for old, new in zip(before, (train, test), strict=True):
        for entry in fields(Outputs):
            assert_array_equal(getattr(new, entry.name), getattr(old, entry.name))


def test_a_file_gives_the_same_bits(fitted: Detector, tmp_path: Path) -> None:
    one, two, three = (tmp_path / folder / fitted.name for folder in ("one", "two", "three"))
    assert fitted.save(one) == fitted.save(two) == fitted.digest
    loaded = load_detector(one)
    assert loaded.digest == fitted.digest
    assert type(loaded) is type(fitted)
    assert loaded.settings() == fitted.settings()
    assert_array_equal(loaded.score(known(1)), fitted.score(known(1)))
    loaded.save(three)
    assert len({path.read_bytes() for path in (one, two, three)}) == 1
    assert [path.name for path in one.parent.iterdir()] == [fitted.name]
    one.rename(one.with_name("other"))
    with pytest.raises(InputError, match=f"holds detector {fitted.name}: its name must be {fitted.name}"):
        load_detector(one.with_name("other"))


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    command = [sys.executable, "-c", SAVE_ALL, str(tmp_path / "there")]
    subprocess.run(command, check=True, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONHASHSEED": "7"})
    for name in NAMES:
        make(name).fit(known(0)).save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name


@pytest.mark.parametrize("damage", ["no file", "no safetensors", "wrong detector", "wrong setting"])
def test_bad_files_are_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "energy"
    if damage != "no file":
        make("energy").fit(known(0)).save(path)
        content = path.read_bytes()
        change = {
            "no safetensors": (content, b"{}"),
            "wrong detector": (b"energy", b"ygrene"),
            "wrong setting": (b"1.0", b"0.0"),
        }
        path.write_bytes(content.replace(*change[damage]))
    with pytest.raises(InputError, match="energy"):
        load_detector(path)


def test_a_zero_feature_vector_and_extreme_logits_give_numbers(fitted: Detector) -> None:
    zero = outputs_of(np.zeros((1, FEATURES)), np.array([0]))
    assert np.isfinite(fitted.score(zero)).all()
    for scale in (1e-6, 1e3):
        train = known(0, scale=scale)
        scores = make(fitted.name).fit(train).score(train)
        assert np.isfinite(scores).all()


def test_a_feature_dead_in_training_gives_numbers(fitted: Detector) -> None:
    train, test = known(0), known(1)
    train.features[:, 3] = 0
    detector = make(fitted.name).fit(outputs_of(train.features, train.labels))
    assert np.isfinite(detector.score(outputs_of(test.features, test.labels))).all()


@pytest.mark.parametrize("name", ["mahalanobis", "rmds", "vim"])
def test_a_move_in_a_dead_feature_is_far(name: str) -> None:
    train = known(0)
    train.features[:, 3] = 0
    detector = make(name).fit(outputs_of(train.features, train.labels))
    moved = train.features.copy()
    moved[:, 3] = 1
    still, shifted = (
        detector.score(outputs_of(features, train.labels)) for features in (train.features, moved)
    )
    assert (shifted > still).all()
    if name != "vim":
        assert shifted.min() > still.max()


def test_read_only_memory_maps_give_the_same_bits(fitted: Detector, tmp_path: Path) -> None:
    known(0).save(tmp_path / "train")
    known(1).save(tmp_path / "test")
    detector = make(fitted.name).fit(Outputs.load(tmp_path / "train"))
    assert_array_equal(detector.score(Outputs.load(tmp_path / "test")), fitted.score(known(1)))


@pytest.mark.parametrize("name", NAMES)
def test_unfitted_detectors_say_so(name: str, tmp_path: Path) -> None:
    detector = make(name)
    if name not in LEARNING:
        assert detector.score(known(1)).shape == (CLASSES * PER_CLASS,)
        return
    for call in (lambda: detector.score(known(1)), lambda: detector.save(tmp_path / name)):
        with pytest.raises(NotFittedError, match=f"{name} is not fitted"):
            call()


def test_background_images_change_nothing(fitted: Detector) -> None:
    train, other = known(0), unknown(3)
    labels = np.concatenate([train.labels, np.full(len(other), BACKGROUND)])
    order = np.random.default_rng(1).permutation(len(labels))
    order = order[np.argsort(labels[order] == BACKGROUND, kind="stable")]
    mixed = outputs_of(np.concatenate([train.features, other.features]), labels)
    mixed = mixed.select(
        np.concatenate([np.arange(100), np.arange(len(train), len(mixed)), np.arange(100, len(train))])
    )
    assert_close(make(fitted.name).fit(mixed).score(known(1)), fitted.score(known(1)))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_or_no_known_images_are_refused_in_fit(name: str) -> None:
    train = known(0)
    labels = train.labels.copy()
    labels[7] = UNKNOWN
    with pytest.raises(InputError, match="unknown"):
        make(name).fit(replace(train, labels=labels))
    with pytest.raises(InputError, match="there is none"):
        make(name).fit(replace(train, labels=np.full(len(train), BACKGROUND)))


def test_float64_inputs_agree(fitted: Detector) -> None:
    def doubled(images: Outputs) -> Outputs:
        names = ("logits", "features", "weight", "bias")
        return replace(images, **{name: getattr(images, name).astype(np.float64) for name in names})

    detector = make(fitted.name).fit(doubled(known(0)))
    assert_close(detector.score(doubled(known(1))), fitted.score(known(1)))


def test_outputs_of_another_network_are_refused(fitted: Detector) -> None:
    images = known(1)
    wider = replace(
        images,
        features=np.pad(images.features, ((0, 0), (0, 1))),
        weight=np.pad(images.weight, ((0, 0), (0, 1))),
    )
    with pytest.raises(InputError, match="one network"):
        fitted.score(wider)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_never_right_is_refused_or_harmless(name: str) -> None:
    train = known(0)
    wrong = train.select(train.labels != 2)
    wrong.labels[wrong.labels == 1] = 2
    missing = {"mav", "openmax", "she", "mahalanobis", "rmds", "cosine", "rcos", "ensemble"}
    if name in missing:
        with pytest.raises(InputError, match="class 1 has 0"):
            make(name).fit(wrong)
    else:
        assert np.isfinite(make(name).fit(wrong).score(known(1))).all()


def test_detectors_move_between_devices(fitted: Detector) -> None:
    expected = fitted.score(known(1))
    assert_array_equal(fitted.to(torch.device("cpu")).score(known(1)), expected)
    if torch.cuda.is_available():
        assert_allclose(fitted.to("cuda").score(known(1)), expected, rtol=1e-3, atol=1e-3)
