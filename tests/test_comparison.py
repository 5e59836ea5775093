"""osr.metrics.comparison and multiple_comparisons against brute force, scipy and published numbers."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from test_method_comparison import draw

from osr.errors import InputError
from osr.metrics.bootstrap import headline
from osr.metrics.comparison import (
    bootstrap_difference,
    delong_test,
    paired_bootstrap,
    paired_t_test,
    wilcoxon_test,
)
from osr.metrics.delong import auroc_covariance
from osr.metrics.groups import Groups
from osr.metrics.multiple_comparisons import critical_difference, friedman_test, holm
from osr.metrics.open_set import open_set_metrics
from osr.metrics.thresholds import count_accepted


def detectors(seed=0, *, num_known=40, num_unknown=30, shift=0.5, tied=False):
    """Two detectors that see the same images: what they share, and noise of their own."""
    rng = np.random.default_rng(seed)
    known, unknown = rng.normal(size=num_known), rng.normal(size=num_unknown) + 1
    correct = rng.random(num_known) < 0.8
    second = (known + 0.5 * rng.normal(size=num_known), unknown - shift + 0.5 * rng.normal(size=num_unknown))
    pair = [(known, correct, unknown), (second[0], correct, second[1])]
    return [(np.round(k), c, np.round(u)) for k, c, u in pair] if tied else pair


# ---- the same images


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_delong_against_every_pair_of_images(seed, tied):
    pair = detectors(seed, num_known=13, num_unknown=9, tied=tied)
    areas, covariance = auroc_covariance(np.stack([p[0] for p in pair]), np.stack([p[2] for p in pair]))
    wins = [(k[:, None] < u) + 0.5 * (k[:, None] == u) for k, _, u in pair]
    expected = [
        [np.cov(a.mean(0), b.mean(0))[0, 1] / 9 + np.cov(a.mean(1), b.mean(1))[0, 1] / 13 for b in wins]
        for a in wins
    ]
    np.testing.assert_allclose(areas, [w.mean() for w in wins], atol=1e-14)
    np.testing.assert_allclose(covariance, expected, atol=1e-14)
    found = delong_test(*pair, confidence=0.9)
    error = math.sqrt(expected[0][0] + expected[1][1] - 2 * expected[0][1])
    difference = wins[0].mean() - wins[1].mean()
    assert found.estimate == pytest.approx(difference)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(difference) / error))
    assert (found.low, found.high) == pytest.approx(stats.norm.interval(0.9, difference, error))


def test_delong_by_hand():
    # each known image against two unknowns: detector 1 wins 1, 1; detector 2 wins 1, 0 and a tie
    first = ([0.0, 0.0], [True, True], [1.0, 1.0])
    second = ([0.0, 2.0], [True, True], [1.0, 2.0])
    found = delong_test(first, second, confidence=0.95)
    assert found.estimate == pytest.approx(1 - (1 + 1 + 0 + 0.5) / 4)
    # shares of U above each known: 1, 1/4; of K below each unknown: 1/2, 3/4; variances 9/32 and 1/32, by 2
    assert found.high - found.estimate == pytest.approx(
        stats.norm.ppf(0.975) * math.sqrt((9 / 32 + 1 / 32) / 2)
    )
    assert found.n == 4


def test_delong_of_many_detectors_at_once_and_of_one():
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(size=(4, 20)), rng.normal(size=(4, 30))
    areas, covariance = auroc_covariance(known, unknown)
    truth = [roc_auc_score(np.arange(50) >= 20, np.append(k, u)) for k, u in zip(known, unknown, strict=True)]
    np.testing.assert_allclose(areas, truth)
    one, variance = auroc_covariance(known[2], unknown[2])
    assert (one[0], variance[0, 0]) == pytest.approx((areas[2], covariance[2, 2]))


def test_detectors_that_rank_alike_do_not_differ():
    (known, correct, unknown), _ = detectors()
    twin = (np.exp(known), correct, np.exp(unknown))
    found = delong_test((known, correct, unknown), twin, confidence=0.95)
    assert (found.estimate, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    for difference in paired_bootstrap(
        (known, correct, unknown), twin, replicates=50, confidence=0.95, seed=0
    ).values():
        assert (difference.estimate, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)


def test_perfect_against_useless_leaves_no_doubt():
    perfect, useless = ([0.0, 0.0], [True] * 2, [1.0, 1.0]), ([0.0, 0.0], [True] * 2, [0.0, 0.0])
    assert delong_test(perfect, useless, confidence=0.95).p_value == 0


def test_paired_bootstrap_agrees_with_delong_and_is_sharper_than_two_intervals():
    first, second = detectors(3, num_known=200, num_unknown=150)
    found = paired_bootstrap(first, second, replicates=500, confidence=0.95, seed=1)
    delong = delong_test(first, second, confidence=0.95)
    assert found["auroc"].estimate == pytest.approx(delong.estimate)
    assert found["auroc"].high - found["auroc"].low == pytest.approx(delong.high - delong.low, rel=0.15)
    assert found["auroc"].p_value == pytest.approx(2 / 501)
    assert delong.p_value < 0.001
    assert found["accuracy"].p_value == 1  # the same predictions
    metrics = [open_set_metrics(*scored) for scored in (first, second)]
    assert found["auoscr"].estimate == pytest.approx(metrics[0]["auoscr"] - metrics[1]["auoscr"])
    assert set(found) == set(headline(count_accepted(*first)))
    areas, covariance = auroc_covariance(np.stack([first[0], second[0]]), np.stack([first[2], second[2]]))
    unpaired = math.sqrt(covariance[0, 0] + covariance[1, 1])
    assert delong.high - areas[0] + areas[1] < 0.8 * 1.96 * unpaired


@pytest.mark.parametrize("shapes", [((2, 3, 1), (2, 3)), ((2, 3), (2, 3, 1)), ((2, 3), (1, 3))])
def test_covariances_are_of_rows_of_scores(shapes):
    with pytest.raises(InputError, match=r"must be \(M, n_K\) and \(M, n_U\)"):
        auroc_covariance(*map(np.zeros, shapes))


def test_bootstrap_p_value_by_hand():
    # 1 of 9 replicates is not above 0: 2 * (1 + 1) / 10; one that is 0 counts on both sides
    second = np.zeros(9)
    first = np.array([-1.0, 1, 1, 1, 1, 1, 1, 1, 1])
    assert bootstrap_difference(first, second, estimate=1.0, confidence=0.9).p_value == pytest.approx(0.4)
    first[1] = 0
    assert bootstrap_difference(first, second, estimate=1.0, confidence=0.9).p_value == pytest.approx(0.6)
    assert bootstrap_difference(-first, second, estimate=-1.0, confidence=0.9).p_value == pytest.approx(0.6)


def test_false_alarms_are_as_rare_as_the_p_value_says():
    rng = np.random.default_rng(0)
    equal = []
    for _ in range(300):
        shared = [rng.normal(size=40), rng.normal(size=30) + 1]
        pair = [tuple(part + 0.5 * rng.normal(size=len(part)) for part in shared) for _ in range(2)]
        correct = np.ones(40, bool)
        equal.append(
            delong_test(*[(known, correct, unknown) for known, unknown in pair], confidence=0.95).p_value
        )
    assert 0.02 < np.mean(np.array(equal) < 0.05) < 0.09  # three standard errors around 0.05


# ---- groups of images


def test_delong_of_groups_against_obuchowski():
    """Every pair of images, as Obuchowski (1997) writes it; group 2 holds known and unknown images."""
    pair = detectors(1, num_known=9, num_unknown=7)
    groups = Groups(np.array([0, 0, 0, 1, 1, 2, 2, 3, 3]), np.array([2, 2, 4, 4, 4, 5, 6]))
    found = auroc_covariance(*(np.stack([p[part] for p in pair]) for part in (0, 2)), groups=groups)[1]
    wins = [(k[:, None] < u) + 0.5 * (k[:, None] == u) for k, _, u in pair]

    def sums(win, numbers, axis):
        shares = win.mean(axis) - win.mean()
        return np.array([shares[numbers == group].sum() for group in range(7)])

    known = [sums(win, groups.known, 1) for win in wins]
    unknown = [sums(win, groups.unknown, 0) for win in wins]
    for a in range(2):
        for b in range(2):
            expected = 4 / 3 * known[a] @ known[b] / 81 + 4 / 3 * unknown[a] @ unknown[b] / 49
            expected += 7 / 6 * (known[a] @ unknown[b] + unknown[a] @ known[b]) / 63
            assert found[a, b] == pytest.approx(expected)


def test_the_interval_between_groups_is_that_of_student():
    """With a degree of freedom less than there are groups on the side that has fewer."""
    first, second = detectors(1, num_known=12, num_unknown=20)
    for groups in (
        Groups(np.arange(12) // 3, 9 + np.arange(20) // 2),
        Groups(np.arange(12), 12 + np.arange(20) // 4),
    ):
        found = delong_test(first, second, confidence=0.9, groups=groups)
        stacked = [np.stack([first[part], second[part]]) for part in (0, 2)]
        areas, covariance = auroc_covariance(*stacked, groups=groups)
        difference = areas[0] - areas[1]
        error, freedom = math.sqrt(covariance.trace() - 2 * covariance[0, 1]), min(groups.counts) - 1
        assert (found.estimate, found.n) == (pytest.approx(difference), 32)
        assert found.p_value == pytest.approx(2 * stats.t.sf(abs(difference) / error, freedom))
        assert (found.low, found.high) == pytest.approx(stats.t.interval(0.9, freedom, difference, error))


def test_images_that_are_groups_of_their_own_are_independent():
    pair = detectors(2)
    alone = Groups(np.arange(40), np.arange(40, 70))
    areas = [np.stack([p[part] for p in pair]) for part in (0, 2)]
    np.testing.assert_allclose(auroc_covariance(*areas, groups=alone)[1], auroc_covariance(*areas)[1])


def test_false_alarms_are_rare_where_frames_of_a_track_are_alike():
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.arange(20), 15)
    groups, correct = Groups(numbers, numbers + 20), np.ones(300, bool)

    def alike():
        return 0.9 * rng.normal(size=20)[numbers] + 0.4 * rng.normal(size=300)

    alarms = []
    for seed in range(60):
        shared = alike(), alike() + 1.5
        pair = [(shared[0] + alike(), correct, shared[1] + alike()) for _ in range(2)]
        by_track = delong_test(*pair, confidence=0.95, groups=groups).p_value
        resampled = paired_bootstrap(*pair, replicates=59, confidence=0.95, seed=seed, groups=groups)["auroc"]
        by_image = delong_test(*pair, confidence=0.95).p_value
        alarms.append(np.array([by_track, resampled.p_value, by_image]) < 0.05)
    by_track, resampled, by_image = np.mean(alarms, axis=0)
    assert by_track < 0.14  # three standard errors above 0.05
    assert resampled < 0.14
    assert by_image > 0.3  # what was wrong


# ---- bad input

FIRST, SECOND = detectors()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: delong_test(FIRST, (FIRST[0][1:], FIRST[1][1:], FIRST[2]), confidence=0.9),
            "39 known and 30",
        ),
        (lambda: delong_test(FIRST, SECOND, confidence=1.0), "between 0 and 1, not 1"),
        (lambda: auroc_covariance(np.zeros((2, 3)), np.zeros((3, 3))), r"\(M, n_K\) and \(M, n_U\)"),
        (lambda: auroc_covariance(np.zeros((2, 1)), np.zeros((2, 3))), "at least 2 known and 2 unknown"),
        (
            lambda: delong_test(
                FIRST, SECOND, confidence=0.9, groups=Groups(np.zeros(40, int), np.arange(30))
            ),
            "at least 2 known and 2 unknown groups, not 1, 30",
        ),
        (
            lambda: delong_test(FIRST, SECOND, confidence=0.9, groups=Groups(np.arange(3), np.arange(2))),
            "3 known and 2 unknown images, but there are scores of 40 and 30",
        ),
        (lambda: auroc_covariance(np.full((2, 3), np.nan), np.zeros((2, 3))), "NaN"),
        (lambda: paired_t_test([1.0, 2.0], [1.0], confidence=0.9), "one length"),
        (lambda: paired_t_test([1.0], [1.0], confidence=0.9), "one length >= 2"),
        (lambda: wilcoxon_test([1.0, math.nan], [1.0, 2.0]), "NaN or an infinity"),
        (lambda: holm([0.1, math.nan]), r"in 0\.\.1"),
        (lambda: holm([0.1, 1.1]), r"in 0\.\.1"),
        (lambda: friedman_test([[1.0, 2.0]]), "N, M >= 2"),
        (lambda: critical_difference(1, 5), "at least 2 methods"),
        (lambda: critical_difference(3, 5, significance=0), "significance"),
        (lambda: draw({"a": 1.0}, 1.0), "at least 2 methods, not 1"),
        (lambda: draw({"a": 1.0, "b": 2.5}, 1.0), r"lie in 1\.\.2, but there is \{'b': 2.5\}"),
        (lambda: draw({"a": 1.0, "b": 2.0}, math.nan), "above 0 and finite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
