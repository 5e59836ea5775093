"""osr.calibration.calibrators against scikit-learn, scipy and probabilities worked out by hand."""

import json
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import approx_fprime
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from osr.calibration import vector_scaling
from osr.calibration.calibrators import Isotonic, Temperature, Vector, fit_calibration
from osr.calibration.files import load_calibration, save_calibration
from osr.calibration.probabilities import fit_temperature
from osr.calibration.vector_scaling import VectorLoss
from osr.errors import InputError
from osr.stored.origin import Origin

BRACKET = (0.01, 100.0)


def sample(seed=0, *, count=3000, classes=4, scale=None, offset=None, temperature=1.0):
    """Logits after which the right probabilities are softmax(scale * logits / temperature + offset)."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, classes))
    right = softmax(logits * (1 if scale is None else scale) / temperature + (offset or 0), axis=1)
    return logits, (right.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)


def fit(logits, labels, method, **changes):
    settings = {"bracket": BRACKET, "folds": 5, "seed": 0} | changes
    return fit_calibration(logits, labels, method=method, **settings)


def nll(logits, labels):
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()


def test_temperature_is_the_one_that_is_searched():
    logits, labels = sample(temperature=2.0)
    found = fit(logits, labels, "temperature")
    expected = fit_temperature(logits, labels, min_temperature=0.01, max_temperature=100.0)
    assert found.calibration == Temperature(expected.temperature)
    assert found.not_used is None
    assert found.nll_before == pytest.approx(nll(logits, labels))
    assert expected.nll_after < found.nll_held_out < found.nll_before
    assert_allclose(found.calibration.apply(logits), logits / expected.temperature)


def test_vector_finds_the_weights_and_offsets_of_the_sample():
    scale, offset = np.array([0.5, 1.0, 1.5, 0.7]), [1.0, -1.0, 0.0, 0.0]
    logits, labels = sample(count=40_000, scale=scale, offset=offset)
    found = fit(logits, labels, "vector", folds=2)
    assert found.not_used is None
    assert_allclose(found.calibration.scale, scale, atol=0.05)
    assert_allclose(found.calibration.offset, offset, atol=0.06)
    assert sum(found.calibration.offset) == pytest.approx(0, abs=1e-9)


def test_vector_of_two_classes_is_logistic_regression():
    logits, labels = sample(count=500, classes=2, temperature=1.7)
    vector = fit(logits, labels, "vector").calibration
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits, labels)
    moved = vector.apply(logits)
    assert_allclose(moved[:, 1] - moved[:, 0], theirs.decision_function(logits), atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_of_vector_scaling_and_its_slope(dtype, monkeypatch):
    monkeypatch.setattr(vector_scaling, "BLOCK_ELEMENTS", 4 * 7)  # 43 blocks of 7 images
    logits, labels = sample(count=300)
    loss = VectorLoss(logits.astype(dtype), labels)
    at = np.random.default_rng(1).normal(size=8)

    def plain(parameters):
        return nll(logits * parameters[:4] + parameters[4:], labels)

    value, slope = loss(at)
    assert value == pytest.approx(plain(at), rel=1e-6)
    assert_allclose(slope, approx_fprime(at, plain), atol=1e-6)


def test_vector_scaling_of_float32_logits_is_that_of_float64():
    logits, labels = sample(scale=np.array([0.5, 1.0, 1.5, 0.7]))
    one, two = (fit(values, labels, "vector").calibration for values in (logits, logits.astype(np.float32)))
    assert_allclose(one.scale, two.scale, atol=1e-3)
    assert_allclose(one.offset, two.offset, atol=1e-3)


def test_isotonic_is_scikit_learns():
    logits, labels = sample(temperature=3.0)
    isotonic = fit(logits, labels, "isotonic").calibration
    confidence, right = softmax(logits, axis=1).max(axis=1), logits.argmax(axis=1) == labels
    theirs = IsotonicRegression(out_of_bounds="clip").fit(confidence, right)
    new, _ = sample(seed=1, temperature=3.0)
    probabilities = softmax(isotonic.apply(new), axis=1)
    margin = 1 / 3001
    expected = theirs.predict(softmax(new, axis=1).max(axis=1)).clip(margin, 1 - margin)
    assert_allclose(probabilities[np.arange(3000), new.argmax(axis=1)], expected, rtol=1e-6)


def test_isotonic_by_hand():
    calibration = Isotonic(knots=(0.5, 0.75), values=(0.4, 0.6))
    logits = np.log([[0.5, 0.3, 0.2], [0.1, 0.625, 0.275], [0.9, 0.1, 1e-300], [0.4, 0.3, 0.3]])
    expected = [
        [0.4, 0.36, 0.24],
        [0.5 * 0.1 / 0.375, 0.5, 0.5 * 0.275 / 0.375],
        [0.6, 0.4, 0],
        [0.4, 0.3, 0.3],
    ]
    assert_allclose(softmax(calibration.apply(logits), axis=1), expected, atol=1e-9)


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
def test_what_makes_held_out_images_worse_says_so_and_is_not_used(method):
    """Already calibrated and few: what is fitted is noise."""
    logits, labels = sample(seed=0, count=40)
    found = fit(logits, labels, method)
    assert found.nll_held_out > found.nll_before
    assert found.not_used.startswith("held-out validation images have an NLL of ")
    assert found.calibration == Temperature(1.0)


@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_separated_images_determine_nothing(method):
    found = fit(np.tile(5 * np.eye(3), (20, 1)), np.tile(np.arange(3), 20), method)
    assert "no validation image is misclassified" in found.not_used
    assert "bracket" not in found.not_used
    assert found.at_bound is None
    assert found.calibration == Temperature(1.0)
    assert found.nll_held_out == found.nll_before


def with_mistakes(seed, wanted):
    """Logits and labels of 200 images, of which `wanted` are wrong, and of 5000 fresh ones; or None."""
    rng = np.random.default_rng(seed)

    def drawn(size):
        labels = rng.integers(0, 6, size)
        logits = rng.normal(size=(size, 6))
        logits[np.arange(size), labels] += 4.5
        return (2.5 * logits).astype(np.float32), labels

    logits, labels = drawn(200)
    return (logits, labels, *drawn(5000)) if (logits.argmax(1) != labels).sum() == wanted else None


@pytest.mark.parametrize("method", ["temperature", "vector"])
@pytest.mark.parametrize("mistakes", [1, 2])
def test_a_fold_whose_others_hold_no_mistake_falls_back_as_the_whole_does(method, mistakes):
    """Where few are wrong, the fit to the other folds may have no mistake to go by."""
    used = helpful = 0
    for draw in filter(None, (with_mistakes(seed, mistakes) for seed in range(60))):
        logits, labels, fresh, truth = draw
        best = fit_temperature(logits, labels, min_temperature=0.01, max_temperature=100.0).temperature
        if nll(fresh / best, truth) < nll(fresh, truth):
            found = fit(logits, labels, method)
            assert found.nll_held_out < 10 * found.nll_before
            helpful, used = helpful + 1, used + (found.not_used is None)
            assert found.not_used is None or "bracket" not in found.not_used
    assert helpful >= 5
    assert method == "vector" or used >= 0.8 * helpful


def test_the_fold_with_the_only_mistake_is_judged_at_temperature_1():
    logits, labels, *_ = next(filter(None, (with_mistakes(seed, 1) for seed in range(60))))
    order = np.random.default_rng(0).permutation(len(labels))
    total = 0.0
    for rows in np.array_split(order, 5):
        others = np.setdiff1d(order, rows)
        wrong = (logits[others].argmax(1) != labels[others]).any()
        best = fit_temperature(logits[others], labels[others], min_temperature=0.01, max_temperature=100.0)
        total += nll(logits[rows] / (best.temperature if wrong else 1.0), labels[rows]) * len(rows)
    assert fit(logits, labels, "temperature").nll_held_out == pytest.approx(total / 200, rel=1e-5)


@pytest.mark.parametrize("method", ["temperature", "vector"])
@pytest.mark.parametrize(("factor", "end"), [(1e4, "highest"), (1e-4, "lowest")])
def test_an_optimum_beyond_the_bracket_is_clipped_and_said(method, factor, end):
    (logits, labels), (fresh, truth) = (sample(seed) for seed in (0, 1))
    logits, fresh = factor * logits, factor * fresh
    found = fit(logits, labels, method)
    assert found.not_used is None
    assert f"the {end} temperature" in found.at_bound
    if method == "temperature":
        assert found.calibration.temperature == pytest.approx(100 if factor > 1 else 0.01)
    assert nll(found.calibration.apply(fresh), truth) < nll(fresh, truth)
    assert json.loads(json.dumps(found.to_json()))["at_bound"] == found.at_bound


def test_calibrations_inside_the_bracket_are_not_at_a_bound():
    logits, labels = sample(temperature=2.0)
    for method in ("temperature", "vector", "isotonic", "none"):
        assert fit(logits, labels, method).at_bound is None


def test_none_and_one_image():
    logits, labels = sample(temperature=2.0)
    found = fit(logits, labels, "none")
    assert (found.calibration, found.not_used) == (Temperature(1.0), None)
    assert found.nll_held_out == found.nll_before
    assert "one validation image" in fit(logits[:1], labels[:1], "temperature").not_used


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
def test_folds_are_drawn_from_the_seed(method):
    logits, labels = sample(count=300, temperature=2.0)
    first, again = (fit(logits, labels, method, seed=1).nll_held_out for _ in range(2))
    assert first == again != fit(logits, labels, method, seed=2).nll_held_out


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
def test_images_of_their_own_groups_are_judged_as_without(method):
    logits, labels = sample(count=300, temperature=2.0)
    assert fit(logits, labels, method, groups=7 * np.arange(300)) == fit(logits, labels, method)


def test_frames_of_a_track_are_no_held_out_images_of_each_other():
    """Ten tracks of thirty equal frames: what is learned of a track is found again in its frames only."""
    logits, labels = sample(seed=3, count=10, temperature=1.0)
    logits, labels, tracks = (np.repeat(values, 30, axis=0) for values in (logits, labels, np.arange(10)))
    alone, together = (fit(logits, labels, "isotonic", groups=groups) for groups in (None, tracks))
    assert alone.not_used is None
    assert alone.nll_held_out < alone.nll_before < together.nll_held_out
    assert "held-out" in together.not_used
    one = fit(logits, labels, "isotonic", groups=np.zeros(300, int))
    assert "one group of validation images only" in one.not_used
    with pytest.raises(InputError, match="Groups must be 300 integers"):
        fit(logits, labels, "isotonic", groups=np.arange(10))


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic", "none"])
def test_unknown_images_are_refused(method):
    logits, labels = sample(count=30)
    for label in (-1, -2):
        with pytest.raises(InputError, match="known classes"):
            fit(logits, np.append(labels[:-1], label), method)


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stored_as_json_and_inputs_stay(method, dtype, tmp_path):
    logits, labels = sample(temperature=2.5)
    logits = logits.astype(dtype)
    before = logits.copy()
    found = fit(logits, labels, method)
    digest = save_calibration(tmp_path / "calibration.json", found, Origin(weights="0" * 16))
    stored = load_calibration(tmp_path / "calibration.json")
    assert (stored.fit, stored.digest, stored.made_from.weights) == (found, digest, "0" * 16)
    assert stored.fit.calibration.method == method
    calibrated = found.calibration.apply(logits)
    assert calibrated.dtype == np.float64
    np.testing.assert_array_equal(logits, before)
    assert nll(calibrated, labels) < nll(logits.astype(np.float64), labels)


@pytest.mark.parametrize(
    "calibration", [Temperature(2.0), Vector((0.5, 2.0), (1.0, -1.0)), Isotonic((0.6, 0.9), (0.5, 0.8))]
)
def test_huge_logits_give_probabilities(calibration):
    probabilities = softmax(calibration.apply(np.array([[3000.0, 0.0], [-1e30, 1e30]])), axis=1)
    assert_allclose(probabilities.sum(axis=1), 1)
    assert math.isfinite(probabilities.min())
