"""What shards leave behind, and distributions fitted to it: against numpy and scipy, at every edge."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.stats import genpareto

from osr.detectors import moments, pareto, quantile
from osr.detectors.chunks import Images
from osr.detectors.classes import class_means, class_sums, gather_classes, refuse_few
from osr.detectors.contract import CLASSES, FEATURES, known, outputs_of
from osr.detectors.distances import contrasts, distance_to, nearest, rounded, unit
from osr.detectors.moments import Moments, feature_sum, scatter, times_triangle
from osr.detectors.pareto import Pareto, fit_pareto, log_tail, tail_in_order
from osr.detectors.quantile import Counts
from osr.detectors.sample import Sample, _mixed
from osr.detectors.softmax import falling_exp, log_sum_exp, shifted, split_exponentials
from osr.detectors.weibull import fit_weibull
from osr.errors import InputError

CPU = torch.device("cpu")


def images_of(features, labels=None) -> Images:
    labels = np.arange(len(features)) % CLASSES if labels is None else labels
    return Images(outputs_of(features, labels), None, CPU)


def wrong_ones() -> Images:
    """One image in seven has another label than its prediction."""
    outputs = known(0)
    return Images(
        replace(outputs, labels=np.where(np.arange(600) % 7, outputs.labels, (outputs.labels + 1) % CLASSES)),
        None,
        CPU,
    )


@pytest.mark.parametrize("space", ["features", "logits"])
@pytest.mark.parametrize("correct_only", [True, False])
def test_sums_of_classes(space, correct_only):
    images = wrong_ones()
    outputs, found = images.outputs, gather_classes(images, space, correct_only=correct_only)
    values = getattr(outputs, space).astype(float)
    keep = outputs.correct if correct_only else np.ones(600, bool)
    sums = [values[keep & (outputs.labels == label)].sum(0) for label in range(CLASSES)]
    assert_allclose(found["sums"], sums, rtol=1e-12)
    assert_array_equal(found["counts"], np.bincount(outputs.labels[keep], minlength=CLASSES))
    assert found["sums"].dtype == torch.float64
    means = class_means(**found, detector="x")
    assert_allclose(means, np.array(sums) / found["counts"].numpy()[:, None], rtol=1e-12)


def test_sums_of_classes_that_some_lack():
    assert class_sums(torch.ones(3, 1), torch.tensor([2, 0, 2]), 4).tolist() == [[1], [0], [2], [0]]


@pytest.mark.parametrize(
    ("counts", "needed", "correct_only", "told"),
    [
        ([3, 0, 1], 1, False, "x needs 1 training images of each known class, but class 1 has 0; 1 of 3 "),
        ([0, 0, 1], 1, True, "needs 1 correctly classified training images of each known class, but class 0"),
        ([9, 3, 2], 5, True, r"class \(detectors.x.tail_size\), but class 1 has 3; 2 of 3 .* to at most 2.$"),
        ([9, 1, 2], 5, False, r"\(detectors.x.tail_size\), but class 1 has 1; .* or leave x out of det"),
        ([9, 2, 2], 3, False, "lower detectors.x.tail_size to at most 2"),
    ],
)
def test_too_few_images_of_a_class(counts, needed, correct_only, told):
    refuse_few(torch.tensor(counts), min(counts), "x", correct_only=correct_only)
    with pytest.raises(InputError, match=told):
        refuse_few(torch.tensor(counts), needed, "x", correct_only=correct_only)


@pytest.mark.parametrize("block", [1, 2, 3, 64])
def test_moments_and_triangles_in_blocks_are_those_of_numpy(block, monkeypatch):
    monkeypatch.setattr(moments, "_MIN_BLOCK", block)
    images = wrong_ones()
    x, labels = images.outputs.features.astype(float), images.outputs.labels
    assert_allclose(feature_sum(images), x.sum(0), rtol=1e-6)
    centred = x - x.mean(0)
    whole, classes = Moments.of_all(images), Moments.of_classes(images)
    assert_allclose(whole.scatter, centred.T @ centred, rtol=1e-6, atol=1e-6)
    assert_allclose(whole.covariance, np.cov(x.T, bias=True), rtol=1e-6, atol=1e-9)
    assert_array_equal(whole.scatter, whole.scatter.T)
    means = np.stack([x[labels == label].mean(0) for label in range(CLASSES)])
    within = x - means[labels]
    assert_allclose(classes.means, means, rtol=1e-6)
    assert_allclose(classes.scatter, within.T @ within, rtol=1e-6, atol=1e-6)
    assert_allclose(classes.covariance, within.T @ within / 600, rtol=1e-6, atol=1e-9)
    origin = torch.from_numpy(np.random.default_rng(0).normal(size=FEATURES))
    moved = x - origin.numpy()
    for found in (whole.scatter_around(origin), scatter(images, origin)):
        assert_allclose(found, moved.T @ moved, rtol=1e-6, atol=1e-6)
    triangle = torch.from_numpy(np.triu(np.random.default_rng(1).normal(size=(FEATURES, FEATURES))))
    values = torch.from_numpy(x[:7])
    assert_allclose(times_triangle(values, triangle), x[:7] @ triangle.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("width", "expected"),
    [(1, [1]), (64, [64]), (65, [64, 1]), (256, [64] * 4), (257, [65, 65, 65, 62]), (400, [100] * 4)],
)
def test_a_width_is_divided_into_four_blocks_of_64_at_least(width, expected):
    blocks = moments._blocks(width)
    assert [stop - start for start, stop in blocks] == expected
    assert [start for start, _ in blocks] == [0, *np.cumsum(expected[:-1])]


def test_moments_merge_where_classes_and_images_lack():
    images, parts = wrong_ones(), (slice(0, 0), slice(0, 1), slice(1, 600))
    shards = [Images(images.outputs.select(part), None, CPU) for part in parts]
    for of in (Moments.of_classes, Moments.of_all):
        none, few, rest = (of(shard) for shard in shards)
        assert_array_equal(none.scatter, np.zeros((FEATURES, FEATURES)))
        assert_array_equal(none.means, np.zeros_like(rest.means))
        for merged in (none.merge(few).merge(rest), rest.merge(none).merge(few)):
            for found, expected in zip(merged, of(images), strict=True):
                assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_a_few_quantiles_are_exact_and_many_are_counted(monkeypatch):
    """As many values as are kept themselves are few; one more, and all are counted."""
    features = np.random.default_rng(0).normal(size=(30, FEATURES))
    monkeypatch.setattr(quantile, "_EXACT", 20 * FEATURES)
    few, one_more = (Counts.of(images_of(features[:size])) for size in (20, 21))
    assert (len(few.values), len(few.bins)) == (20 * FEATURES, 0)
    assert (len(one_more.values), len(one_more.bins)) == (0, 1 << 20)
    assert int(one_more.bins.sum()) == 21 * FEATURES
    parts = [Counts.of(images_of(features[start:stop])) for start, stop in ((0, 12), (12, 20), (20, 30))]
    exact = parts[0].merge(parts[1])
    assert (len(exact.values), len(exact.bins)) == (20 * FEATURES, 0)
    assert_array_equal(np.sort(exact.values), np.sort(few.values))
    whole = Counts.of(images_of(features)).bins
    last = Counts.of(images_of(features[21:]))
    for counted in (exact.merge(parts[2]), parts[2].merge(exact), one_more.merge(last), last.merge(one_more)):
        assert len(counted.values) == 0
        assert_array_equal(counted.bins, whole)
    assert_array_equal(one_more.merge(one_more).bins, 2 * one_more.bins)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 3.14, -2e-30, 1e30, 1.1754944e-38])
def test_a_bin_holds_its_number(value):
    (number,) = np.flatnonzero(quantile._binned(np.array([value], np.float32)))
    low, high = quantile._ends(int(number))
    assert low <= np.float32(value) <= high
    assert high - low <= max(abs(value) / 2048 * 1.001, 1e-41)
    after, _ = quantile._ends(int(number) + 1)
    assert after == np.nextafter(np.float32(high), np.float32(np.inf))


def test_values_are_spread_evenly_over_a_bin(monkeypatch):
    """Four equal ones lie at an eighth, three, five and seven eighths of their bin."""
    monkeypatch.setattr(quantile, "_EXACT", 0)
    found = Counts.of(images_of(np.ones((1, FEATURES)), np.array([0])))
    low, high = quantile._ends(int(np.flatnonzero(found.bins)[0]))
    for rank, place in ((0, 0.5 / 40), (13, 13.5 / 40), (39, 39.5 / 40)):
        assert_allclose(found.quantile(rank / 39) - low, (high - low) * place, rtol=1e-6)
    assert low == 1.0
    half = Counts.of(images_of(np.repeat([[1.0, 2.0]], 20, axis=0).reshape(1, -1), np.array([0])))
    assert_allclose([half.quantile(share / 39) for share in (0, 19, 19.25, 19.5, 20, 39)],
                    [1, 1, 1.25, 1.5, 2, 2], atol=1e-3)  # fmt: skip


@pytest.mark.parametrize("shape", [-0.9, -0.5, -0.05, 0.0, 0.3, 2.0])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_a_pareto_fit_is_the_most_likely_and_moves_with_the_scale(shape, scale):
    values = scale * genpareto.rvs(shape, size=200, random_state=1)
    found = fit_pareto(values)
    at = [found.shape, np.log(found.scale)]
    best = minimize(lambda at: genpareto.nnlf((at[0], 0, np.exp(at[1])), values), at, method="Nelder-Mead")
    assert genpareto.nnlf((found.shape, 0, found.scale), values) <= best.fun + 1e-5
    again = fit_pareto(values / scale)
    assert_allclose([found.scale / scale, found.shape], again, rtol=1e-6)


def test_pareto_fits_of_hardly_anything():
    """One value, equal ones and a uniform sample are most likely at the end of the shapes."""
    for values in ([3.0], [2.0, 2.0], np.arange(1, 100) / 99 * 5):
        assert fit_pareto(np.array(values)) == Pareto(float(max(values)), -1.0)
    even = genpareto.ppf((np.arange(500) + 0.5) / 500, 0.0)
    assert abs(fit_pareto(even).shape) < 0.02
    assert pareto._fit_at(1e-9, even) == Pareto(even.mean(), 0.0)


@pytest.mark.parametrize("shape", [-1.0, -0.5, 0.0, 0.5])
def test_the_tail_of_a_pareto_distribution_is_scipys_and_goes_on(shape):
    fit = Pareto(2.0, shape)
    excesses = torch.tensor([0.0, 0.5, 1.0, 1.9, 2.0, 3.0, 4.0, 5.0, 1e3], dtype=torch.float64)
    end = -2.0 / shape if shape < 0 else np.inf
    inside = excesses[excesses < end]
    assert_allclose(log_tail(inside, fit), genpareto.logsf(inside, shape, scale=2.0), rtol=1e-12, atol=1e-15)
    assert_allclose(tail_in_order(inside, fit), genpareto.sf(inside, shape, scale=2.0), atol=1e-200)
    beyond = excesses[excesses > end]
    assert_allclose(tail_in_order(beyond, fit), -(beyond.numpy() - end) / 2, atol=1e-200)
    below = torch.tensor([-1e-9, -1.0, -7.0], dtype=torch.float64)
    assert_allclose(tail_in_order(below, fit), 1 - below.numpy() / 2, rtol=1e-12)
    order = tail_in_order(torch.cat([below.flip(0), excesses]), fit)
    assert (np.diff(order) < 0).all()


def test_a_sample_holds_the_smallest_keys_and_everything_where_there_is_little():
    images = Images(known(0), np.arange(600) % 2 == 0, CPU)
    every = Sample.of(images, 300)
    assert len(every.keys) == 300
    assert_array_equal(np.diff(every.keys) > 0, True)
    for size in (1, 10, 299, 300, 1000):
        found = Sample.of(images, size)
        assert_array_equal(found.keys, every.keys[:size])
        assert_array_equal(found.features, every.features[:size])
        assert_array_equal(found.labels, every.labels[:size])
    rows = {row.tobytes() for row in known(0).features[::2]}
    assert {row.tobytes() for row in every.features.numpy()} == rows
    assert Sample.of(images, 10).features.dtype == torch.float32
    assert Sample.of(replace(images, unit=True), 10).features.dtype == torch.float64
    empty = Sample.of(Images(known(0), np.zeros(600, bool), CPU), 10)
    assert_array_equal(empty.merge(Sample.of(images, 10)).keys, every.keys[:10])


def test_keys_are_those_of_splitmix64():
    """The first three numbers of the published generator with seed 0, and with seed 1234567."""
    golden = 0x9E3779B97F4A7C15
    seeds = np.array([0, golden, 2 * golden % 2**64, 1234567], np.uint64).view(np.int64)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 6457827717110365317]
    assert_array_equal(_mixed(seeds).view(np.uint64), np.array(expected, np.uint64))


@pytest.mark.parametrize("width", [1, 2, 63, 64, 65])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponentials_that_are_split_make_the_softmax(width, dtype):
    logits = 5 * torch.randn(20, width, dtype=dtype, generator=torch.Generator().manual_seed(0))
    logits[3] = 2.0
    others, largest, rest = split_exponentials(logits)
    p = logits.double().softmax(1)
    top = p.argmax(1, keepdim=True)
    share = others.double() / (largest * (1 + rest))[:, None]
    rtol = 1e-5 if dtype == torch.float32 else 1e-12
    assert_allclose(share.scatter(1, top, p.gather(1, top)), p, rtol=rtol, atol=1e-300)
    assert (others.gather(1, top) == 0).all()
    assert_allclose(rest, (1 - p.gather(1, top)[:, 0]) / p.gather(1, top)[:, 0], rtol=1e-3, atol=1e-12)
    assert_allclose(log_sum_exp(logits + 1e4) - 1e4, logits.double().logsumexp(1), rtol=1e-3, atol=2e-3)
    assert_allclose(shifted(logits), logits - logits.amax(1, keepdim=True), rtol=1e-6)


def test_shifted_logits_stop_where_their_exponential_is_0():
    for dtype in (torch.float32, torch.float64):
        found = shifted(torch.tensor([[0.0, -1e30, -50.0]], dtype=dtype))[0]
        assert found[1].exp() == 0
        assert found[1] > -1000
        assert found[2] == -50


def test_a_falling_exponential_falls_on():
    values = torch.tensor([0.0, -1.0, -699.0, -700.0, -701.0, -1400.0, -1e6], dtype=torch.float64)
    found = falling_exp(values)
    assert_allclose(found[:4], values[:4].exp(), rtol=1e-14)
    assert_allclose(found[4:], np.exp(-700.0) * 700 / -values[4:].numpy(), rtol=1e-14)
    assert (np.diff(found) < 0).all()


def test_distances_to_means_and_which_is_nearest():
    rng = np.random.default_rng(0)
    means, values = (torch.from_numpy(rng.normal(size=(size, 4)) + 100) for size in (5, 30))
    gaps = np.linalg.norm(values.numpy()[:, None] - means.numpy(), axis=2)
    rows = nearest(values, *contrasts(means))
    assert_array_equal(rows, gaps.argmin(1))
    cosine = 1 - (unit(values) * unit(means)[rows]).sum(1)
    assert_allclose(distance_to(values, means, rows, "euclidean"), gaps.min(1), rtol=1e-12)
    assert_allclose(distance_to(values, means, rows, "cosine"), cosine, atol=1e-15)
    assert_allclose(distance_to(values, means, rows, "eucos"), gaps.min(1) / 200 + cosine.numpy(), rtol=1e-12)
    zero = torch.zeros(1, 4, dtype=torch.float64)
    assert distance_to(zero, means, torch.tensor([0]), "cosine") == 1
    assert_array_equal(unit(zero), zero)


def test_rounded_numbers_keep_26_bits():
    values = torch.tensor([1 / 3, -np.pi, 1.0, 1 + 2.0**-25, 1 + 2.0**-40, 1e308, 0.0], dtype=torch.float64)
    found = rounded(values)
    assert_allclose(found, values, rtol=2.0**-26, atol=0)
    mantissa = np.frexp(found.numpy())[0] * 2.0**26
    assert_array_equal(mantissa[:5], np.round(mantissa[:5]))
    assert_array_equal(found[2:4], values[2:4])
    assert found[4] == 1
    assert found[0] != values[0]


@pytest.mark.parametrize("size", [2, 3, 20])
def test_a_weibull_fit_moves_with_powers_and_scales(size):
    """The shape of x^2 is half, its scale the square; both ends of the bracket hold."""
    sample = np.random.default_rng(size).weibull(1.5, size=(6, size)) + 1e-3
    shape, scale = fit_weibull(sample)
    squared = fit_weibull(sample**2)
    assert_allclose(squared, [shape / 2, scale**2], rtol=1e-9)
    assert_allclose(fit_weibull(1e6 * sample), [shape, 1e6 * scale], rtol=1e-9)
    mean = -np.log(sample / sample.max(1, keepdims=True)).mean(1)
    assert (shape >= 1 / mean).all()
    assert (shape <= (1 + (size - 1) / np.e) / mean * (1 + 1e-12)).all()
