"""osr.metrics.groups: whole groups are drawn, and intervals, thresholds and p-values know of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from osr.errors import InputError
from osr.metrics.bootstrap import bootstrap_intervals, bootstrap_replicates, oscr_band
from osr.metrics.groups import Groups, equal_shares
from osr.metrics.open_set import open_set_metrics
from osr.metrics.thresholds import conformal_p_values, fit_threshold

NUMBERS = st.lists(st.integers(-3, 5), min_size=1, max_size=15)


@settings(deadline=None)
@given(NUMBERS, NUMBERS, st.integers(0, 1000))
def test_a_replicate_holds_whole_groups_of_both_sides(known, unknown, seed):
    groups = Groups(np.array(known), np.array(unknown))
    rows = groups.draw(np.random.SeedSequence(seed))
    drawn = [
        np.bincount(found, minlength=len(part)) for found, part in zip(rows, (known, unknown), strict=True)
    ]
    times = {}
    for counts, part in zip(drawn, (known, unknown), strict=True):
        assert counts.sum() > 0
        for number, count in zip(part, counts, strict=True):
            assert times.setdefault(number, count) == count  # also of a group with known and unknown images
    kinds = [set(known) - set(unknown), set(unknown) - set(known), set(known) & set(unknown)]
    for kind in kinds:
        assert sum(times[number] for number in kind) == len(kind)


def test_units_by_hand():
    groups = Groups(np.array([7, 7, 7, 9]), np.array([1, 2, 3]))
    assert groups.counts == (2, 3)
    assert groups.units == (16 / 10, 3)
    known_alone = Groups(np.array([7, 7, 9]), np.array([], int))
    assert (known_alone.counts, known_alone.units) == ((2, 0), (9 / 5, 0))
    assert [sizes.tolist() for sizes in known_alone.sizes] == [[2, 1], [0, 0]]
    assert Groups.of(None, np.array([0, -1])) is None
    both = Groups.of(np.array([5, 6, 7, 8]), np.array([0, -1, 1, -1]))
    assert (both.known.tolist(), both.unknown.tolist()) == ([5, 7], [6, 8])


def test_replicates_are_those_of_the_drawn_images():
    rng = np.random.default_rng(0)
    known, correct, unknown = (
        np.round(rng.normal(size=12)),
        rng.random(12) < 0.7,
        np.round(rng.normal(size=9)),
    )
    groups = Groups(np.arange(12) // 4, 1 + np.arange(9) // 2)
    found = bootstrap_replicates(known, correct, unknown, replicates=20, seed=3, groups=groups)
    for number, child in enumerate(np.random.SeedSequence(3).spawn(20)):
        k, u = groups.draw(child)
        direct = open_set_metrics(known[k], correct[k], unknown[u]) | {"accuracy": correct[k].mean()}
        for name, values in found.items():
            assert values[number] == pytest.approx(direct[name])


def tracks(rng, correlation, num_tracks=20, frames=30):
    numbers = np.repeat(np.arange(num_tracks), frames)
    own = rng.normal(size=len(numbers))
    return math.sqrt(correlation) * rng.normal(size=num_tracks)[numbers] + math.sqrt(1 - correlation) * own


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_intervals_of_tracks_hold_the_truth(correlation):
    rng = np.random.default_rng(5)
    shift = math.sqrt(2) * stats.norm.ppf(0.9)
    numbers = np.repeat(np.arange(20), 30)
    groups, holds = Groups(numbers, numbers + 20), []
    for seed in range(60):
        drawn = tracks(rng, correlation), np.ones(600, bool), tracks(rng, correlation) + shift
        ends = [
            bootstrap_intervals(*drawn, replicates=50, confidence=0.95, seed=seed, groups=used)["auroc"]
            for used in (groups, None)
        ]
        holds.append([interval.low <= 0.9 <= interval.high for interval in ends])
    by_track, by_image = np.mean(holds, axis=0)
    assert by_track >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 60)
    assert by_image < 0.6 or correlation == 0


def test_perfect_scores_of_few_tracks_leave_the_doubt_of_few():
    numbers = np.repeat(np.arange(5), 100)
    drawn = np.zeros(500), np.ones(500, bool), np.ones(500)
    common = {"replicates": 50, "confidence": 0.95, "seed": 0}
    by_track = bootstrap_intervals(*drawn, **common, groups=Groups(numbers, numbers + 5))
    five = bootstrap_intervals(np.zeros(5), np.ones(5, bool), np.ones(5), **common)
    for name, interval in by_track.items():
        assert (interval.low, interval.high) == pytest.approx((five[name].low, five[name].high))
    low, _ = oscr_band(*drawn, fpr=[1.0], **common, groups=Groups(numbers, numbers + 5))
    assert low[0] == pytest.approx(by_track["accuracy"].low)


# ---- conformal


def test_conformal_by_hand():
    scores, groups = [0.0, 1.0, 2.0, 3.0, 4.0], [5, 5, 5, 5, 8]
    # groups weigh 1 each: 0.25 per frame of the first; of 3 in all
    p_values = conformal_p_values(scores, [-1.0, 1.0, 3.5, 9.0], groups=groups)
    np.testing.assert_allclose(p_values, [1, 2.75 / 3, 2 / 3, 1 / 3])
    # 0.5 of 3 asks for 1.5 groups: 4 frames of the first are 1, the other is 2
    fitted = fit_threshold(scores, target_acceptance=0.5, conformal=True, groups=groups)
    assert (fitted.value, fitted.num_images, fitted.num_groups) == (4.0, 5, 2)
    assert fit_threshold(scores, target_acceptance=0.25, conformal=True, groups=groups).value == 2.0
    with pytest.raises(InputError, match="cannot be made from 2 validation groups"):
        fit_threshold(scores, target_acceptance=0.7, conformal=True, groups=groups)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20), st.lists(st.integers(0, 9), min_size=1, max_size=9)
)
def test_groups_of_one_image_change_nothing(scores, tested):
    alone = np.arange(len(scores)) * 3
    np.testing.assert_array_equal(
        conformal_p_values(scores, tested, groups=alone), conformal_p_values(scores, tested)
    )
    assert (
        fit_threshold(scores, target_acceptance=0.4, groups=alone).value
        == fit_threshold(scores, target_acceptance=0.4).value
    )


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_the_promise_holds_for_an_image_of_a_new_group(correlation):
    rng = np.random.default_rng(0)
    sizes = np.array([1, 1, 2, 3, 5, 8, 13, 21, 2, 30])
    numbers = np.repeat(np.arange(10), sizes)
    by_group, by_image = [], []
    for _ in range(3000):
        of_groups = rng.normal(size=11)
        frames = math.sqrt(correlation) * of_groups[numbers] + math.sqrt(1 - correlation) * rng.normal(
            size=86
        )
        new = math.sqrt(correlation) * of_groups[10] + math.sqrt(1 - correlation) * rng.normal()
        by_group.append(conformal_p_values(frames, [new], groups=numbers)[0] <= 0.1)
        by_image.append(conformal_p_values(frames, [new])[0] <= 0.1)
    assert np.mean(by_group) <= 0.1 + 3 * math.sqrt(0.09 / 3000)
    assert np.mean(by_image) > 0.12 or correlation == 0  # what was wrong


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Groups(np.array([1.0]), np.array([1])), "vectors of integers"),
        (lambda: Groups(np.array([], int), np.array([1])), "vectors of integers"),
        (lambda: equal_shares([1, 2], 3), "Groups must be 3 integers"),
        (
            lambda: bootstrap_replicates(
                [0.0], [True], [1.0], replicates=2, seed=0, groups=Groups(np.arange(2), np.arange(1))
            ),
            "2 known and 1 unknown images, but there are scores of 1 and 1",
        ),
    ],
)
def test_bad_groups(call, message):
    with pytest.raises(InputError, match=message):
        call()
