"""What a file may say of a calibration, and the section `calibrate`: the ends of every range."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from changed_settings import changed
from pydantic import ValidationError
from tampering import rewrite

from osr.calibration.calibrators import CalibrationFit, Isotonic, Temperature, Vector
from osr.calibration.files import LARGEST, load_calibration, save_calibration
from osr.calibration.settings import CalibrateSettings
from osr.errors import InputError
from osr.stored.origin import Origin

MORE = math.nextafter(LARGEST, math.inf)
ONE_CLASS = {"scale": [1.0], "offset": [0.0]}
BELOW_1 = math.nextafter(1, 0)


def stored(path: Path, method: str, settings: dict, **content: object):
    """What is read from a file that says so, stamped as osr would."""
    fit = CalibrationFit(Temperature(2.0), "temperature", None, None, 30, 0.5, 0.4)
    save_calibration(path, fit, Origin())
    rewrite(path, lambda told: told.update({"method": method, "settings": settings} | content))
    return load_calibration(path)


@pytest.mark.parametrize(
    ("method", "settings", "calibration"),
    [
        ("temperature", {"temperature": 1 / LARGEST}, Temperature(1 / LARGEST)),
        ("temperature", {"temperature": LARGEST}, Temperature(LARGEST)),
        ("vector", ONE_CLASS, Vector((1.0,), (0.0,))),
        (
            "vector",
            {"scale": [-LARGEST, LARGEST], "offset": [LARGEST, -LARGEST]},
            Vector((-LARGEST, LARGEST), (LARGEST, -LARGEST)),
        ),
        ("isotonic", {"knots": [0.5], "values": [0.7]}, Isotonic((0.5,), (0.7,))),
        (
            "isotonic",
            {"knots": [0.0, 0.5, 1.0], "values": [1e-9, 1e-9, BELOW_1]},
            Isotonic((0.0, 0.5, 1.0), (1e-9, 1e-9, BELOW_1)),
        ),
    ],
)
def test_a_calibration_at_the_ends_of_its_ranges_is_read(tmp_path, method, settings, calibration):
    found = stored(tmp_path / "calibration.json", method, settings)
    assert found.fit.calibration == calibration
    assert found.num_classes == (len(settings["scale"]) if method == "vector" else None)
    assert np.isfinite(calibration.apply(np.zeros((2, len(settings.get("scale", "ab")))))).all()


@pytest.mark.parametrize(
    ("method", "settings", "told"),
    [
        ("temperature", {"temperature": 0.9 / LARGEST}, "settings: temperature"),
        ("temperature", {"temperature": MORE}, "settings: temperature"),
        ("temperature", {}, "the key 'temperature' is missing"),
        ("temperature", {"temperature": 1.0, "scale": [1.0]}, "scale"),
        ("vector", {"scale": [MORE], "offset": [0.0]}, r"settings: scale\[0\]"),
        ("vector", {"scale": [-MORE], "offset": [0.0]}, r"settings: scale\[0\]"),
        ("vector", {"scale": [1.0], "offset": [MORE]}, r"settings: offset\[0\]"),
        ("vector", {"scale": [1.0], "offset": [-MORE]}, r"settings: offset\[0\]"),
        ("vector", {"scale": [], "offset": []}, "must hold one number per class, not 0 and 0"),
        ("vector", {"scale": [1.0, 2.0], "offset": [0.0]}, "one number per class, not 2 and 1"),
        ("vector", {"scale": [1.0], "offset": [0.0, 1.0]}, "one number per class, not 1 and 2"),
        ("isotonic", {"knots": [], "values": []}, "must be as many, not 0 and 0"),
        ("isotonic", {"knots": [0.5], "values": [0.5, 0.6]}, "must be as many, not 1 and 2"),
        ("isotonic", {"knots": [0.5, 0.6], "values": [0.5]}, "must be as many, not 2 and 1"),
        ("isotonic", {"knots": [-1e-9], "values": [0.5]}, r"settings: knots\[0\]"),
        ("isotonic", {"knots": [1 + 1e-9], "values": [0.5]}, r"settings: knots\[0\]"),
        ("isotonic", {"knots": [0.5], "values": [0.0]}, r"settings: values\[0\]"),
        ("isotonic", {"knots": [0.5], "values": [1.0]}, r"settings: values\[0\]"),
        (
            "isotonic",
            {"knots": [0.2, 0.4, 0.4], "values": [0.1, 0.2, 0.3]},
            "knots must rise, but do not after number 2",
        ),
        (
            "isotonic",
            {"knots": [0.4, 0.2, 0.5], "values": [0.1, 0.2, 0.3]},
            "knots must rise, but do not after number 1",
        ),
        (
            "isotonic",
            {"knots": [0.2, 0.4, 0.6], "values": [0.2, 0.2, 0.1]},
            "values must rise, but do not after number 2",
        ),
        ("none", {"temperature": 1.0}, "method"),
    ],
)
def test_what_is_no_calibration_is_refused_by_its_key(tmp_path, method, settings, told):
    with pytest.raises(InputError, match=rf"calibration.json.*{told}"):
        stored(tmp_path / "calibration.json", method, settings)


@pytest.mark.parametrize(
    "changes", [{"num_images": 0}, {"asked": "platt"}, {"nll_before": None}, {"more": 1}]
)
def test_what_is_said_of_a_fit_is_checked(tmp_path, changes):
    with pytest.raises(InputError, match=f"calibration.json.*{next(iter(changes))}"):
        stored(tmp_path / "calibration.json", "temperature", {"temperature": 1.0}, **changes)
    assert stored(tmp_path / "calibration.json", "vector", ONE_CLASS, num_images=1).fit.num_images == 1


@pytest.mark.parametrize(
    "calibration", [Temperature(2.5), Vector((0.5, 2.0), (1.0, -1.0)), Isotonic((0.6, 0.9), (0.5, 0.8))]
)
@pytest.mark.parametrize(("not_used", "at_bound"), [(None, None), ("it is worse", None), (None, "it falls")])
def test_a_file_says_what_it_is_and_what_it_was_made_from(tmp_path, calibration, not_used, at_bound):
    fit = CalibrationFit(calibration, "isotonic", not_used, at_bound, 7, 0.75, 0.25)
    assert fit.to_json() == {
        "method": calibration.method,
        "settings": vars(calibration),
        "asked": "isotonic",
        "not_used": not_used,
        "at_bound": at_bound,
        "num_images": 7,
        "nll_before": 0.75,
        "nll_held_out": 0.25,
    }
    path, origin = tmp_path / "calibration.json", Origin(weights="0" * 16)
    digest = save_calibration(path, fit, origin)
    assert load_calibration(path) == (fit, origin, digest)
    assert json.loads(path.read_text())["kind"] == "calibration"


# The smallest and the largest value that are taken, and one below and above that is not.
RANGES = {
    "folds": (2, 1000, 1, 1001),
}


@pytest.mark.parametrize("key", RANGES)
def test_a_range_of_the_section_holds_its_ends_and_nothing_beyond(key):
    def section(value):
        return CalibrateSettings.model_validate(changed({f"calibrate.{key}": value})["calibrate"])

    smallest, largest, below, above = RANGES[key]
    assert [getattr(section(value), key) for value in (smallest, largest)] == [smallest, largest]
    for value in (below, above, math.nan, None):
        with pytest.raises(ValidationError):
            section(value)


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic", "none"])
def test_each_method_may_be_asked_for(method):
    content = changed({"calibrate.method": method})["calibrate"]
    assert CalibrateSettings.model_validate(content).method == method
    with pytest.raises(ValidationError):
        CalibrateSettings.model_validate(content | {"method": method.upper()})
