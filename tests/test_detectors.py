"""The contract every registered detector keeps."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from osr.detectors.base import Detector, NotFittedError
from osr.detectors.contract import (
    CLASSES,
    PER_CLASS,
    PROMISES,
    Make,
    known,
    outputs_of,
    unknown_above_known,
)
from osr.detectors.registry import DETECTORS, build_detectors, load_detector
from osr.detectors.settings import DetectorName, DetectorsSettings
from osr.errors import InputError
from osr.params import load_params

ROOT = Path(__file__).parents[1]
NAMES = list(DETECTORS)
LEARNING = [name for name in NAMES if DETECTORS[name].needs_fit]

SAVE_ALL = """
import sys, test_detectors as t
from pathlib import Path
for name in t.NAMES:
    t.make(name).fit(t.known(0)).save(Path(sys.argv[1]) / name)
"""


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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise(promise: Callable[[Make], None], name: str) -> None:
    promise(lambda: make(name))


def test_one_list_of_names() -> None:
    assert set(DETECTORS) == set(get_args(DetectorName))
    sections = set(DetectorsSettings.model_fields) - {
        "enabled",
        "options",
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


def test_unknown_images_score_higher(fitted: Detector) -> None:
    # OpenMax rejects a part of the known images by design: those in the tail its Weibull was fitted to. What
    # these unknown images have lies in the directions that the residual leaves out.
    weak = fitted.name in {"openmax", "residual"}
    assert unknown_above_known(fitted) > (0.85 if weak else 0.99)


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


@pytest.mark.parametrize("name", NAMES)
def test_unfitted_detectors_say_so(name: str, tmp_path: Path) -> None:
    detector = make(name)
    if name not in LEARNING:
        assert detector.score(known(1)).shape == (CLASSES * PER_CLASS,)
        return
    for call in (lambda: detector.score(known(1)), lambda: detector.save(tmp_path / name)):
        with pytest.raises(NotFittedError, match=f"{name} is not fitted"):
            call()


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
