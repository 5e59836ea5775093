"""osr.metrics.bootstrap against a bootstrap that sorts every resample anew."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from osr.errors import InputError
from osr.metrics.bootstrap import RESAMPLED, bootstrap_intervals, bootstrap_replicates, oscr_band
from osr.metrics.open_set import HEADLINE, open_set_metrics
from osr.metrics.resampling import draw
from osr.metrics.statistics import Shape, effective_size, share_ends


def sample(kind, num_known=60, num_unknown=45, seed=0):
    rng = np.random.default_rng(seed)
    known, unknown = rng.normal(size=num_known), rng.normal(size=num_unknown) + 1
    if kind == "tied":
        known, unknown = np.round(known), np.round(unknown)
    if kind == "constant":
        known, unknown = np.zeros(num_known), np.zeros(num_unknown)
    return known, rng.random(num_known) < 0.8, unknown


@pytest.mark.parametrize("kind", ["continuous", "tied", "constant"])
@pytest.mark.parametrize("size", [(60, 45), (1, 1), (3, 200)])
def test_every_replicate_equals_a_resample_sorted_anew(kind, size):
    known, correct, unknown = sample(kind, *size)
    ours = bootstrap_replicates(known, correct, unknown, replicates=30, seed=4)
    for number, child in enumerate(np.random.SeedSequence(4).spawn(30)):
        known_draw, unknown_draw = draw(child, *size)
        direct = open_set_metrics(known[known_draw], correct[known_draw], unknown[unknown_draw])
        direct["accuracy"] = correct[known_draw].mean()
        assert {name: values[number] for name, values in ours.items()} == pytest.approx(
            {name: direct[name] for name in ours}, abs=1e-14
        )
        assert ours["auroc"][number] == direct["auroc"]
        assert ours["auoscr"][number] == direct["auoscr"]
    assert set(ours) == set(RESAMPLED)


@pytest.mark.parametrize("kind", ["continuous", "tied"])
def test_a_band_is_the_interval_of_a_share_at_each_point(kind):
    known, correct, unknown = sample(kind)
    fpr = np.array([0.0, 0.01, 0.1, 1 / 3, 0.5, 1.0])
    band = oscr_band(known, correct, unknown, fpr=fpr, replicates=25, confidence=0.8, seed=4)
    thetas = np.concatenate(([-np.inf], known, unknown))

    def rates(k, u):
        accepted = np.array([(unknown[u] <= theta).mean() for theta in thetas])
        right = np.array([(correct[k] & (known[k] <= theta)).mean() for theta in thetas])
        return [right[accepted <= share + 1e-12].max() for share in fpr]

    children = np.random.SeedSequence(4).spawn(25)
    drawn = np.array([rates(*draw(child, len(known), len(unknown))) for child in children])
    estimate = np.array(rates(np.arange(len(known)), np.arange(len(unknown))))
    units = min(len(known), len(unknown))
    size = effective_size(estimate, drawn.var(axis=0, ddof=1), units=units, expected=1.0)
    expected = share_ends(estimate, size, confidence=0.8, shape=Shape())
    np.testing.assert_allclose(band, expected)
    assert (band[0] <= estimate).all()
    assert (estimate <= band[1]).all()
    assert (band[0] < band[1]).all()
    with pytest.raises(InputError, match=r"FPRs in 0\.\.1"):
        oscr_band(known, correct, unknown, fpr=[1.5], replicates=25, confidence=0.8, seed=4)
    with pytest.raises(InputError, match="confidence must lie between"):
        oscr_band(known, correct, unknown, fpr=fpr, replicates=25, confidence=1.0, seed=4)


def test_seed_decides_and_threads_do_not():
    drawn = sample("continuous")
    one = bootstrap_replicates(*drawn, replicates=50, seed=1)
    two = bootstrap_replicates(*drawn, replicates=50, seed=1, num_threads=3)
    other = bootstrap_replicates(*drawn, replicates=50, seed=2)
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name])
    assert not np.array_equal(one["auroc"], other["auroc"])


def test_detectors_on_the_same_images_are_paired():
    known, correct, unknown = sample("continuous")
    one = bootstrap_replicates(known, correct, unknown, replicates=20, seed=1)
    two = bootstrap_replicates(2 * known - 7, correct, 2 * unknown - 7, replicates=20, seed=1)
    np.testing.assert_array_equal(one["auoscr"], two["auoscr"])
    np.testing.assert_array_equal(one["accuracy"], two["accuracy"])


def test_intervals_hold_the_estimate_and_leave_the_input_alone():
    drawn = sample("tied")
    copies = [array.copy() for array in drawn]
    found = bootstrap_intervals(*drawn, replicates=400, confidence=0.9, seed=0)
    for array, copy in zip(drawn, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    replicates = bootstrap_replicates(*drawn, replicates=400, seed=0)
    for name, interval in found.items():
        direct = open_set_metrics(*drawn) | {"accuracy": drawn[1].mean()}
        assert interval.estimate == pytest.approx(direct[name])
        assert interval.low <= interval.estimate <= interval.high
        assert interval.n == 400
        inside = (replicates[name] >= interval.low) & (replicates[name] <= interval.high)
        assert inside.mean() >= 0.85
        assert interval.spread == pytest.approx(replicates[name].std(ddof=1))


def test_the_standard_error_of_accuracy_is_binomial():
    correct = np.arange(400) % 4 > 0
    found = bootstrap_intervals(np.zeros(400), correct, [0.0], replicates=3000, confidence=0.95, seed=0)
    assert found["accuracy"].spread == pytest.approx(math.sqrt(0.75 * 0.25 / 400), rel=0.05)
    low, high = stats.beta.ppf([0.025, 0.975], [300.25, 300.75], [100.75, 100.25])
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx((low, high))
    assert found["auroc"].spread == 0
    assert found["auroc"].low < 0.1 < 0.9 < found["auroc"].high  # one unknown image


# ---- intervals at the edge


@pytest.mark.parametrize("size", [1, 5, 20, 1000])
def test_perfect_scores_of_n_images_still_leave_doubt(size):
    found = bootstrap_intervals(
        np.zeros(size), np.ones(size, bool), np.ones(size), replicates=100, confidence=0.95, seed=0
    )
    for name in (*HEADLINE, "accuracy"):
        interval = found[name]
        assert interval.estimate == (0 if name.startswith("fpr") else 1)
        assert interval.low < interval.high
        assert interval.estimate in (interval.low, interval.high)
    # none of n wrong: at most about 3.7 / n are
    assert found["accuracy"].low == pytest.approx(stats.beta.ppf(0.025, size + 0.25, 0.75))
    assert found["auroc"].low == pytest.approx(stats.beta.ppf(0.025, size / 0.75 + 0.5, 0.5))
    if size < 19:  # of fewer than 19 knowns no threshold accepts 95 % of new ones for sure
        assert found["fpr_at_95tpr_known"].high == found["fpr_at_95tpr_unknown"].high == 1
    else:
        assert found["fpr_at_95tpr_known"].high < 7 / size


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=12),
    st.lists(st.integers(0, 3), min_size=1, max_size=12),
    st.integers(0, 2**12 - 1),
    st.floats(0.01, 0.98),
)
def test_intervals_lie_in_0_to_1_hold_the_estimate_have_a_width_and_widen(known, unknown, bits, confidence):
    correct = np.array([bool(bits >> place & 1) for place in range(len(known))])
    drawn = np.array(known, float), correct, np.array(unknown, float)
    narrow, wide = (
        bootstrap_intervals(*drawn, replicates=20, confidence=share, seed=0)
        for share in (confidence, confidence + 0.015)
    )
    for name, interval in narrow.items():
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
        assert interval.low < interval.high
        assert wide[name].low <= interval.low
        assert interval.high <= wide[name].high


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 15), st.integers(1, 15))
def test_a_score_with_the_other_sign_mirrors_the_interval_of_auroc(seed, num_known, num_unknown):
    known, correct, unknown = sample("tied", num_known, num_unknown, seed)
    one = bootstrap_intervals(known, correct, unknown, replicates=20, confidence=0.9, seed=1)["auroc"]
    two = bootstrap_intervals(-known, correct, -unknown, replicates=20, confidence=0.9, seed=1)["auroc"]
    assert (one.low, one.high) == pytest.approx((1 - two.high, 1 - two.low))


@pytest.mark.parametrize("size", [20, 50])
@pytest.mark.parametrize("auroc", [0.9, 0.97, 0.998])
def test_intervals_of_few_images_near_1_hold_the_truth(size, auroc):
    rng = np.random.default_rng(0)
    shift = math.sqrt(2) * stats.norm.ppf(auroc)
    holds = []
    for seed in range(80):
        drawn = rng.normal(size=size), np.ones(size, bool), rng.normal(size=size) + shift
        found = bootstrap_intervals(*drawn, replicates=50, confidence=0.95, seed=seed)["auroc"]
        holds.append(found.low <= auroc <= found.high)
    assert np.mean(holds) >= 0.93 - 2 * math.sqrt(0.93 * 0.07 / 80)


def test_auroc_intervals_cover_the_truth():
    truth = stats.norm.cdf(1 / math.sqrt(2))
    intervals = [
        bootstrap_intervals(*sample("continuous", 80, 80, seed), replicates=100, confidence=0.9, seed=seed)[
            "auroc"
        ]
        for seed in range(100)
    ]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert 0.81 <= covered <= 0.99  # three standard errors around 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replicates": 1}, "at least 2 replicates"),
        ({"seed": -1}, "seed of at least 0"),
        ({"num_threads": 0}, "at least 1 thread"),
        ({"confidence": 1.0}, "confidence must lie between 0 and 1"),
        ({"known_scores": [math.nan] * 3}, "NaN"),
    ],
)
def test_bad_bootstraps(change, message):
    good = {
        "known_scores": [0.0, 1.0, 2.0],
        "known_correct": [True] * 3,
        "unknown_scores": [1.0],
        "replicates": 5,
        "confidence": 0.9,
        "seed": 0,
    }
    with pytest.raises(InputError, match=message):
        bootstrap_intervals(**(good | change))
