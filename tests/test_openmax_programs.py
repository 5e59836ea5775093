"""The OpenMax presets against the programs and texts that they name."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_openmax import DEFAULTS, outputs, random_outputs, slow_openmax

from osr.detectors.openmax import OpenMax
from osr.settings.reading import read_yaml

ROOT = Path(__file__).parents[1]

# Space, distance, tail, alpha, weighting, correct images only, translation, as read in each program or text.
DIALECTS = {
    "bendale_code": ("logits", "eucos", 20, 10, "code", True, "osdn"),
    "bendale_paper": ("logits", "euclidean", 20, 10, "paper", True, "osdn"),
    "openood": ("logits", "euclidean", 20, 3, "code", True, "libmr"),
    "pytorch_ood": ("logits", "euclidean", 25, 10, "code", False, "osdn"),
}


def preset(name: str) -> dict:
    """The settings of params.yaml and, over them, of presets/openmax_NAME.yaml."""
    files = (ROOT / "params.yaml", ROOT / f"presets/openmax_{name}.yaml")
    shipped, changes = (read_yaml(file)["detectors"]["openmax"] for file in files)
    return shipped | changes


def test_the_default_has_no_translation() -> None:
    assert read_yaml(ROOT / "params.yaml")["detectors"]["openmax"] == DEFAULTS


@pytest.mark.parametrize("name", ["bendale_code", "openood"])
def test_presets_are_their_programs_with_the_real_libmr(name: str) -> None:
    """benchmarks/libmr_openmax.py made the file, with libmr 0.1.9, whose fits stop at about 1e-6."""
    with np.load(ROOT / "tests" / "libmr_openmax.npz") as stored:
        train = outputs(stored["train_logits"], labels=stored["train_labels"])
        test = outputs(stored["test_logits"])
        theirs, weibull = stored[f"probabilities_{name}"], stored[f"weibull_{name}"]
    detector = OpenMax(**preset(name)).fit(train)
    state = detector._state
    found = np.stack([state[key].numpy() for key in ("weibull_shape", "weibull_scale", "translation")], 1)
    assert_allclose(found, weibull, rtol=1e-4)
    assert_allclose(detector.probabilities(test), theirs, rtol=1e-4, atol=5e-6)
    assert np.ptp(theirs[:, -1]) > 0.5
    without = OpenMax(**preset(name) | {"translation": "none"}).fit(train).probabilities(test)
    assert np.abs(without - theirs).max() > 5e-3


@pytest.mark.parametrize("name", DIALECTS)
def test_published_dialects_are_presets(name: str) -> None:
    settings = preset(name)
    assert tuple(settings[key] for key in DEFAULTS) == DIALECTS[name]
    scores = OpenMax(**settings).fit(random_outputs(0)).score(random_outputs(1, count=60))
    expected = slow_openmax(random_outputs(0), random_outputs(1, count=60), settings)
    assert_allclose(scores, expected[:, -1], rtol=2e-4, atol=1e-7)
