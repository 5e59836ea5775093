"""Temperatures, tables and folds where something is empty, equal, at an end, or in more than one block."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression
from test_calibrators import fit, sample

from osr.calibration import probabilities
from osr.calibration.calibrators import Isotonic, Temperature, Vector, fit_calibration
from osr.calibration.isotonic import fit_isotonic
from osr.calibration.probabilities import (
    checked_classes,
    checked_labels,
    fit_temperature,
    probability_quality,
    softmax_blocks,
)
from osr.calibration.reliability import reliability
from osr.calibration.vector_scaling import fit_vector
from osr.errors import InputError

BRACKET = {"min_temperature": 0.01, "max_temperature": 100.0}


def confident(*confidences):
    """Logits of two classes, the first with these probabilities."""
    p = np.array(confidences)
    return np.log(np.stack([p, 1 - p], axis=1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_quality_is_that_of_the_formulas_in_any_blocks(temperature, rows, monkeypatch):
    logits, labels = sample(count=300, classes=5)
    logits[::50] = 1e4 * logits[::50]
    monkeypatch.setattr(probabilities, "BLOCK_ELEMENTS", 5 * rows)
    found = probability_quality(logits, labels, temperature)
    p, own = softmax(logits / temperature, axis=1), np.arange(300)
    brier = np.square(p - np.eye(5)[labels]).sum(axis=1)
    assert_allclose(found[0], p.max(axis=1), rtol=1e-12)
    assert_allclose(found[1], -log_softmax(logits / temperature, axis=1)[own, labels], rtol=1e-9, atol=1e-12)
    assert_allclose(found[2], brier, rtol=1e-9, atol=1e-12)
    assert [part.shape for part in found] == [(300,)] * 3
    fits = fit_temperature(logits, labels, **BRACKET)
    monkeypatch.undo()
    assert fits.temperature == pytest.approx(fit_temperature(logits, labels, **BRACKET).temperature, rel=1e-9)


def test_a_block_holds_as_many_rows_as_its_elements_and_one_at_least(monkeypatch):
    logits, labels = sample(count=10, classes=4)
    for elements, sizes in ((4, [1] * 10), (3, [1] * 10), (12, [3, 3, 3, 1]), (40, [10]), (44, [10])):
        monkeypatch.setattr(probabilities, "BLOCK_ELEMENTS", elements)
        blocks = [len(block.total) for block in softmax_blocks(logits, labels, 1.0, np.float64)]
        assert blocks == sizes


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_is_above_0_and_finite(temperature):
    logits, labels = sample(count=10)
    with pytest.raises(InputError, match="temperature must be above 0 and finite, not"):
        probability_quality(logits, labels, temperature)
    with pytest.raises(InputError, match="temperature must be above 0 and finite, not"):
        reliability(logits, labels, temperature=temperature, bins=5)
    assert np.isfinite(probability_quality(logits, labels, 1e-300)[0]).all()


def test_a_bracket_may_end_at_1():
    logits, labels = sample(temperature=2.0)
    right = fit_temperature(logits, labels, **BRACKET)
    assert right.temperature == pytest.approx(2.0, rel=0.1)
    for low, high, expected in ((1.0, 100.0, right.temperature), (0.01, 1.0, 1.0), (1.0, 1.0, 1.0)):
        found = fit_temperature(logits, labels, min_temperature=low, max_temperature=high)
        assert found.temperature == pytest.approx(expected, rel=1e-6)
        assert found.at_bound == (expected == 1.0)
        assert found.nll_before == right.nll_before
    for low, high in ((0.0, 2.0), (-1.0, 2.0), (1.01, 2.0), (0.5, 0.99), (0.5, math.inf), (math.nan, 2.0)):
        with pytest.raises(InputError, match="The bracket must be above 0 and hold 1, not"):
            fit_temperature(logits, labels, min_temperature=low, max_temperature=high)


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        ([[2.0, 0, 1], [0, 3, 0]], [0, 1], True),
        ([[2.0, 0, 1], [0, 3, 0]], [0, 0], False),
        ([[2.0, 0, 1], [5, 5, 5]], [0, 2], True),  # whatever the temperature, nothing is lost by flat ones
        ([[2.0, 2, 1], [0, 3, 0]], [1, 1], True),  # one of two largest
        ([[2.0, 2, 2], [1, 1, 1]], [1, 0], False),  # flat alone: no temperature is better
        ([[2.0, 0, 1]], [0], True),
        ([[2.0, 0, 1]], [2], False),
    ],
)
def test_images_are_separated_where_a_smaller_temperature_is_always_better(logits, labels, expected):
    found = fit_temperature(np.array(logits), labels, **BRACKET)
    assert found.separated is expected
    nlls = [probability_quality(np.array(logits), np.array(labels), t)[1].mean() for t in (0.2, 0.4)]
    assert (nlls[0] < nlls[1]) == expected
    if expected:
        assert found.temperature == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": [0, 1, 2.0]}, "labels must be 3 whole numbers, not float64"),
        ({"labels": [True, True, False]}, "labels must be 3 whole numbers, not bool"),
        ({"labels": [[0, 1, 2]]}, r"not int64 of shape \(1, 3\)"),
        ({"labels": [0, 1, 3]}, r"known classes 0..2, but span 0..3"),
        ({"labels": [0, 1, -1]}, r"known classes 0..2, but span -1..1"),
        ({"logits": np.zeros(3)}, r"must be floats \(N, K\), not float64 of shape \(3,\)"),
        ({"logits": np.zeros((3, 3, 1))}, r"must be floats \(N, K\)"),
        ({"logits": np.zeros((3, 0))}, r"must be floats \(N, K\)"),
        ({"logits": np.zeros((3, 3), complex)}, r"must be floats \(N, K\), not complex128"),
        ({"logits": np.diag([math.inf, 0, 0])}, "logits must be finite"),
        ({"logits": np.diag([-math.inf, 0, 0])}, "logits must be finite"),
        ({"logits": np.diag([math.nan, 0, 0])}, "logits must be finite"),
    ],
)
def test_what_is_no_logits_and_labels(change, told):
    with pytest.raises(InputError, match=told):
        checked_labels(**({"logits": np.eye(3), "labels": [0, 1, 2]} | change))


def test_labels_are_returned_as_int64():
    for kind in (np.uint8, np.int32, np.int64):
        found = checked_labels(np.eye(3, dtype=np.float32), np.arange(3, dtype=kind))
        assert found.dtype == np.int64
        assert_array_equal(found, [0, 1, 2])
    assert checked_classes(np.array([], int), 0, 3, name="x").shape == (0,)
    with pytest.raises(InputError, match=r"^x must be 1 whole"):
        checked_classes([0, 1], 1, 3, name="x")


def test_an_isotonic_table_holds_both_ends_of_each_stretch():
    """Right or wrong at rising confidence: 1 0 | 1 0 1 1 | 1 of 1, as pools of 1/2, 3/4 and 1."""
    confidence = [0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9]
    right = np.array([1, 0, 1, 0, 1, 1, 1], bool)
    knots, values = fit_isotonic(confident(*confidence), np.where(right, 0, 1))
    pooled = IsotonicRegression().fit(confidence, right).predict(confidence).clip(1 / 8, 7 / 8)
    assert_allclose(pooled, [0.5] * 4 + [7 / 8] * 3)
    assert_allclose(knots, [0.55, 0.7, 0.75, 0.9])
    assert_allclose(values, [0.5, 0.5, 7 / 8, 7 / 8])
    assert all(type(number) is float for number in (*knots, *values))


def test_an_isotonic_table_of_equal_confidences_and_of_one_image():
    images = confident(0.6, 0.6, 0.6, 0.9)
    knots, values = fit_isotonic(images, np.array([0, 0, 1, 1]))
    assert_allclose(knots, [0.6, 0.9])
    assert_allclose(values, [0.5, 0.5])  # 2/3 of three and 0 of one: 2 of 4
    knots, values = fit_isotonic(images, np.array([0, 1, 1, 0]))
    assert_allclose(values, [1 / 3, 4 / 5])
    assert_allclose(fit_isotonic(confident(0.7), np.array([1])), [[0.7], [0.5]])


def test_an_isotonic_calibration_of_one_class_changes_nothing():
    one = Isotonic((0.5,), (0.25,))
    assert_array_equal(one.apply(np.array([[3.0], [-2.0]])), np.zeros((2, 1)))
    found = softmax(one.apply(np.array([[2.0, 1.0, 0.0]])), axis=1)
    assert_allclose(found, [[0.25, 0.75 * math.e / (math.e + 1), 0.75 / (math.e + 1)]])


def test_vector_scaling_of_whole_numbers_and_its_ends():
    assert_array_equal(Vector((2.0, 1.0), (0.5, -1.0)).apply(np.array([[1, 2]])), [[2.5, 1.0]])
    assert_array_equal(Temperature(2.0).apply(np.array([[1, 2]])), [[0.5, 1.0]])
    logits, labels = sample(count=2000, scale=np.array([0.5, 1.0, 1.5, 0.7]))
    free = fit_vector(logits, labels, lowest=0.01, highest=100.0)
    assert (free.at_lowest, free.at_highest, free.separated) == (False, False, False)
    assert_allclose(free.offset.mean(), 0, atol=1e-12)
    low = fit_vector(logits, labels, lowest=0.9, highest=100.0)
    assert (low.weight.min(), low.at_lowest, low.at_highest) == (0.9, True, False)
    high = fit_vector(logits, labels, lowest=0.01, highest=1.1)
    assert (high.weight.max(), high.at_lowest, high.at_highest) == (1.1, False, True)
    both = fit_vector(logits, labels, lowest=0.9, highest=1.1)
    assert (both.at_lowest, both.at_highest) == (True, True)
    assert fit_vector(np.eye(3), np.arange(3), lowest=0.01, highest=100.0).separated


def test_both_ends_that_stop_a_fit_are_named():
    logits, labels = sample(count=2000, scale=np.array([0.5, 1.0, 1.5, 0.7]))
    for bracket, told in (
        ((0.01, 100.0), None),
        ((0.01, 1.1), "the NLL still falls at the highest temperature, 1.1"),
        ((0.9, 100.0), "the NLL still falls at the lowest temperature, 0.9"),
        (
            (0.9, 1.1),
            "the NLL still falls at the lowest temperature, 0.9 and at the highest temperature, 1.1",
        ),
    ):
        found = fit(logits, labels, "vector", bracket=bracket)
        assert (found.at_bound, found.not_used) == (told, None)


@pytest.mark.parametrize(("factor", "bracket", "end"), [(2.0, (0.5, 1.1), "highest temperature, 1.1"),
                         (1 / 2.0, (0.9, 1.5), "lowest temperature, 0.9")])  # fmt: skip
def test_the_end_that_stops_a_temperature_near_1_is_named_alone(factor, bracket, end):
    logits, labels = sample(temperature=factor)
    found = fit(logits, labels, "temperature", bracket=bracket)
    assert (found.at_bound, found.not_used) == (f"the NLL still falls at the {end}", None)
    assert found.calibration.temperature == pytest.approx(float(end.split(", ")[1]))


def test_what_separated_images_leave_open_is_said():
    images = np.tile(5 * np.eye(3), (20, 1)), np.tile(np.arange(3), 20)
    assert fit(*images, "temperature").not_used == (
        "no validation image is misclassified: a smaller temperature is always better, and none is the best"
    )
    assert fit(*images, "vector").not_used == (
        "with its weights and offsets no validation image is misclassified, so that larger ones are always "
        "better and none are the best"
    )


def test_a_stopped_fit_that_is_not_used_says_nothing_of_ends():
    logits, labels = sample(count=40)
    found = fit(logits, labels, "temperature", bracket=(0.999, 1.001))
    assert found.not_used is None or found.at_bound is None


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
def test_held_out_nll_is_that_of_folds_of_groups(method):
    """Worked out fold by fold, with groups of unequal size and more folds than groups."""
    logits, labels = sample(count=120, temperature=2.0)
    groups = np.repeat([30, 10, 40, 20], [50, 10, 25, 35])
    for folds, parts in ((2, 2), (4, 4), (9, 4)):
        found = fit(logits, labels, method, groups=groups, folds=folds, seed=3)
        order, total = np.random.default_rng(3).permutation(4), 0.0
        for chosen in np.array_split(order, parts):
            rows = np.isin(groups, np.array([10, 20, 30, 40])[chosen])
            of_others = fit(logits[~rows], labels[~rows], method, bracket=(0.01, 100.0))
            calibration = refitted(logits[~rows], labels[~rows], method)
            assert of_others.num_images == (~rows).sum()
            calibrated = log_softmax(calibration.apply(logits[rows]), axis=1)
            total -= calibrated[np.arange(rows.sum()), labels[rows]].sum()
        assert found.nll_held_out == pytest.approx(total / 120, rel=1e-6)


def refitted(logits, labels, method):
    """What is fitted to these images, used or not."""
    if method == "temperature":
        return Temperature(fit_temperature(logits, labels, **BRACKET).temperature)
    if method == "isotonic":
        return Isotonic(*fit_isotonic(logits, labels))
    found = fit_vector(logits, labels, lowest=0.01, highest=100.0)
    return Vector(tuple(found.weight), tuple(found.offset))


@pytest.mark.parametrize("groups", [np.zeros(5, int), np.zeros(6), np.zeros((6, 1), int), np.zeros(6, bool)])
def test_groups_are_one_integer_for_each_image(groups):
    with pytest.raises(InputError, match=r"Groups must be 6 integers, not "):
        fit(np.eye(6), np.arange(6), "temperature", groups=groups)


def test_one_image_or_group_is_not_judged():
    logits, labels = sample(count=6, temperature=2.0)
    for groups, told in (
        (None, None),
        (np.full(6, 7, np.uint8), "there is one group of validation images only"),
    ):
        found = fit(logits, labels, "vector", groups=groups)
        assert told is None or found.not_used == f"{told}, and none to judge it by"
    found = fit(logits[:1], labels[:1], "isotonic")
    assert found.not_used == "there is one validation image only, and none to judge it by"
    assert found.nll_held_out == found.nll_before
    assert (
        fit_calibration(
            logits[:1], labels[:1], method="none", bracket=(0.01, 100.0), folds=5, seed=0
        ).not_used
        is None
    )


def test_the_reason_names_both_numbers():
    logits, labels = sample(seed=0, count=40)
    found = fit(logits, labels, "isotonic")
    assert found.not_used == (
        f"held-out validation images have an NLL of {found.nll_held_out:.4g} with it, "
        f"{found.nll_before:.4g} without"
    )
    flat = fit(np.zeros((8, 2)), np.arange(8) % 2, "temperature")
    assert flat.nll_held_out == flat.nll_before
    assert flat.not_used.startswith("held-out validation images have an NLL of "), "no better is not used"
