"""Methods compared over trials: paired tests, ranks, critical differences and their figure."""

import math

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import stats

from osr.metrics.comparison import (
    paired_t_test,
    wilcoxon_test,
)
from osr.metrics.multiple_comparisons import critical_difference, friedman_test, holm
from osr.plots import critical_difference as figure
from osr.plots import style

# ---- trials


def test_paired_tests_against_scipy():
    rng = np.random.default_rng(0)
    first = rng.normal(size=8)
    second = first - 0.4 + 0.5 * rng.normal(size=8)
    found = paired_t_test(first, second, confidence=0.9)
    truth = stats.ttest_rel(first, second)
    assert found.p_value == pytest.approx(truth.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(truth.confidence_interval(0.9)))
    assert (found.estimate, found.n) == (pytest.approx(np.mean(first - second)), 8)
    assert wilcoxon_test(first, second) == pytest.approx(stats.wilcoxon(first, second, method="exact").pvalue)


def test_trials_without_a_difference_or_without_scatter():
    assert paired_t_test([0.5, 0.7], [0.5, 0.7], confidence=0.9).p_value == 1
    assert paired_t_test([0.5, 0.75], [0.25, 0.5], confidence=0.9).p_value == 0
    assert wilcoxon_test([0.5, 0.7], [0.5, 0.7]) == 1
    assert wilcoxon_test([1, 2, 3, 4, 5.0], [0.0] * 5) == 2 ** (1 - 5)


# ---- several at once


def test_holm_by_hand():
    # 0.01 * 3, 0.03 * 2, 0.04 * 1, which may not fall below the one before
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    np.testing.assert_allclose(holm([0.2]), [0.2])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("decimals", [None, 1])
def test_friedman_against_scipy(decimals):
    values = np.random.default_rng(0).normal([0, 0.5, 0, 1], size=(7, 4))
    values = values if decimals is None else np.round(values, 0)
    found = friedman_test(values)
    truth = stats.friedmanchisquare(*values.T)
    assert (found.statistic, found.p_value) == pytest.approx((truth.statistic, truth.pvalue))
    assert found.ranks.sum() == pytest.approx(10)
    assert found.ranks[3] == found.ranks.min()


def test_friedman_by_hand():
    # the first method is best on all three data sets, the others tie once
    found = friedman_test([[0.9, 0.8, 0.7], [0.9, 0.7, 0.8], [0.9, 0.8, 0.8]])
    np.testing.assert_allclose(found.ranks, [1, 2.5, 2.5])
    assert found.statistic == pytest.approx(9 * (1 + 0.25 + 0.25) / ((2 + 2 + 1.5) / 2))
    assert friedman_test(np.zeros((3, 4))).p_value == 1


@pytest.mark.parametrize(
    ("num_methods", "q05", "q10"),
    [(2, 1.960, 1.645), (3, 2.343, 2.052), (4, 2.569, 2.291), (5, 2.728, 2.459), (6, 2.850, 2.589)],
)
def test_nemenyi_against_the_table_of_demsar(num_methods, q05, q10):
    unit = math.sqrt(num_methods * (num_methods + 1) / (6 * 10))
    for significance, quantile in ((0.05, q05), (0.1, q10)):
        found = critical_difference(num_methods, 10, significance=significance)
        assert found / unit == pytest.approx(quantile, abs=1.1e-3)


def test_nemenyi_example_of_demsar():
    # four classifiers on 14 data sets: 1.25 at 0.05 and 1.12 at 0.10
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, significance=0.1) == pytest.approx(1.12, abs=0.005)


# ---- the figure


def draw(ranks, length):
    with style.styled():
        axes = style.canvas(3.4, 2).subplots()
        figure.critical_difference(axes, ranks, critical_difference=length)
    return axes


def test_diagram_joins_what_lies_closer_than_the_critical_difference(tmp_path):
    ranks = {"b": 2.0, "a": 1.5, "d": 3.5, "c": 3.0}
    axes = draw(ranks, 1.5)
    bars = [line.get_xdata() for line in axes.get_lines() if line.get_color() == style.BLUE]
    np.testing.assert_allclose(
        bars, [[1.5, 2], [2, 3], [3, 3.5]], atol=0.05
    )  # 1.5 to 3 is not closer than 1.5
    ruler = next(line for line in axes.get_lines() if line.get_marker() == "|")
    assert np.ptp(ruler.get_xdata()) == 1.5
    labels = [text.get_text() for text in axes.texts]
    assert [label for label in labels if "  " in label] == ["a  1.50", "b  2.00", "3.00  c", "3.50  d"]
    assert "critical difference 1.50" in labels
    with style.styled():
        style.save(axes.figure, tmp_path / "figure.png", 100)
    pixels = imread(tmp_path / "figure.png")[..., :3]
    assert (np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]) == 1).all()


def test_diagram_bars_are_the_longest_runs():
    assert figure.indistinguishable([1, 1.1, 1.2, 3], 0.5) == [(0, 2)]
    assert figure.indistinguishable([1, 2, 3], 5) == [(0, 2)]
    assert figure.indistinguishable([1, 2, 3], 1) == []
