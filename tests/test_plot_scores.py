"""Score histograms, reliability and figures by class: units, thresholds, shares, and what is refused."""

import numpy as np
import pytest
from drawings import (
    _styled,  # noqa: F401 (fixture)
    blank,
    legend,
    lines,
    rng,
    scores_of,
    table,
)
from matplotlib.colors import to_hex

from osr.errors import InputError
from osr.plots import style
from osr.plots.classes import class_bars, class_scores
from osr.plots.reliability import reliability
from osr.plots.scores import score_histogram


def bars(axes):
    return [patch for patch in axes.patches if patch.get_fill()]


def test_score_histogram_has_unit_areas_the_threshold_and_both_shares():
    known, unknown = rng.normal(size=2000), rng.normal(2.5, 1.0, 500)
    axes = blank()
    score_histogram(axes, known, unknown_scores=unknown, threshold=1.5, name="energy")
    for patch in bars(axes):
        density, edges, _ = patch.get_data()
        assert (density * np.diff(edges)).sum() == pytest.approx(1.0)
    assert legend(axes) == [
        f"known: {100 * (known <= 1.5).mean():.1f} % accepted (n = 2,000)",
        f"unknown: {100 * (unknown > 1.5).mean():.1f} % rejected (n = 500)",
    ]
    np.testing.assert_array_equal(lines(axes)["threshold"].get_xdata(), 1.5)
    (note,) = axes.texts
    assert "θ = 1.5" in note.get_text()
    assert note.xy[0] == 1.5
    assert axes.get_xlabel() == "energy score (higher = more unknown)"
    assert [to_hex(patch.get_facecolor()) for patch in bars(axes)] == [
        c.lower() for c in (style.BLUE, style.VERMILLION)
    ]


def test_score_histogram_keeps_the_bulk_in_view_under_heavy_tails():
    known = np.r_[np.random.default_rng(1).normal(size=990), np.full(10, 1e6)]
    axes = blank()
    score_histogram(axes, known, unknown_scores=known[:990] + 3, threshold=2.0, name="mahalanobis")
    low, high = axes.get_xlim()
    assert high - low < 15
    assert "10 of 1,990 scores lie outside the axis" in axes.get_xlabel()
    density, edges, _ = bars(axes)[0].get_data()
    assert (density * np.diff(edges)).sum() == pytest.approx(0.99)


def test_score_histogram_shows_both_groups_when_one_peak_towers():
    axes, spread = blank(), np.linspace(0, 1, 200)
    known = np.r_[np.zeros(990), spread[:10]]
    score_histogram(axes, known, unknown_scores=spread, threshold=0.1, name="msp")
    assert axes.get_ylabel() == "density (square-root scale)"


@pytest.mark.parametrize("value", [0.0, 3.0, -1e20, 1e-30])
def test_score_histogram_of_constant_scores_and_a_single_unknown(value, tmp_path):
    axes = blank()
    score_histogram(
        axes, np.full(20, value), unknown_scores=np.array([value]), threshold=value, name="kplus1"
    )
    low, high = axes.get_xlim()
    assert low < value < high
    assert legend(axes) == ["known: 100.0 % accepted (n = 20)", "unknown: 0.0 % rejected (n = 1)"]
    density, edges, _ = bars(axes)[0].get_data()
    (full,) = np.flatnonzero(density)
    assert edges[full] < value < edges[full + 1]
    style.save(axes.figure, tmp_path / "figure.png", 60)


@pytest.mark.parametrize("threshold", [-50.0, 50.0])
def test_score_histogram_reaches_a_threshold_far_from_the_data(threshold):
    axes = blank()
    score_histogram(
        axes, rng.normal(size=50), unknown_scores=rng.normal(size=50), threshold=threshold, name="msp"
    )
    low, high = axes.get_xlim()
    assert low < threshold < high
    assert axes.texts[0].get_ha() == (
        "left" if threshold < 0 else "right"
    )  # the label stays inside the figure


@pytest.mark.parametrize(
    ("known", "unknown", "threshold", "sentence"),
    [
        ([], [1.0], 0.0, "known scores must"),
        ([1.0], [], 0.0, "unknown scores must"),
        ([1.0, np.nan], [1.0], 0.0, "known scores hold 1 NaN"),
        ([1.0], [np.nan, np.inf], 0.0, "unknown scores hold 1 NaN"),
        ([1.0], [1.0], np.nan, "threshold is NaN"),
    ],
)
def test_score_histogram_refuses_what_has_no_place_on_an_axis(known, unknown, threshold, sentence):
    with pytest.raises(InputError, match=sentence):
        score_histogram(blank(), known, unknown_scores=unknown, threshold=threshold, name="msp")


@pytest.mark.parametrize("threshold", [0.5, np.inf])
def test_score_histogram_counts_infinite_scores_as_outside(threshold, tmp_path):
    axes = blank()
    score_histogram(axes, np.arange(10.0), unknown_scores=np.full(5, np.inf), threshold=threshold, name="knn")
    assert "5 of 15 scores lie outside the axis" in axes.get_xlabel()
    assert legend(axes)[1] == f"unknown: {100.0 if threshold == 0.5 else 0.0} % rejected (n = 5)"
    assert ("threshold" in lines(axes)) == np.isfinite(threshold)
    style.save(axes.figure, tmp_path / "figure.png", 60)


def test_reliability_draws_filled_bins_only_and_breaks_at_empty_ones():
    axes = blank()
    before = table([0, 10, 0, 0, 90], [0, 0.2, 0, 0, 0.8])
    after = table([10, 20, 20, 20, 30], [0.1, 0.3, 0.5, 0.7, 0.9])
    reliability(axes, {"before": before, "after": after}, ece={"before": 0.0912, "after": 0.0004})
    assert legend(axes) == ["before: ECE 0.091", "after: ECE 0.000", "calibrated"]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[0.3, 0.2], [0.9, 0.8]])
    assert len(axes.collections[1].get_offsets()) == 5
    small, large = axes.collections[0].get_sizes()
    assert small < large
    assert np.isnan(axes.get_lines()[0].get_ydata()).tolist() == [True, False, True, True, False]
    (strip,) = axes.child_axes
    np.testing.assert_allclose(strip.patches[0].get_data().values, [0, 0.1, 0, 0, 0.9])
    np.testing.assert_allclose(strip.patches[0].get_data().edges, [0, 0.2, 0.4, 0.6, 0.8, 1])


def test_reliability_of_a_single_filled_bin(tmp_path):
    axes = blank()
    reliability(axes, {"before": table([0, 0, 7], [0, 0, 1.0])}, ece={"before": 0.1})
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[5 / 6, 1.0]])
    style.save(axes.figure, tmp_path / "figure.png", 60)


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({}, "1 to 3 tables, not 0"),
        ({"before": {"confidence": [0.5], "count": [1]}}, "lacks accuracy"),
        ({"before": table([0, 0], [0, 0])}, "counts no image"),
        ({"before": {"confidence": [0.5], "accuracy": [0.5], "count": [1, 2]}}, "one length"),
    ],
)
def test_reliability_refuses_broken_tables(tables, sentence):
    with pytest.raises(InputError, match=sentence):
        reliability(blank(), tables, ece=dict.fromkeys(tables, 0.0))


def test_class_bars_have_the_length_of_their_share():
    axes = blank()
    shares = {"right": np.array([0.2, 0.9]), "accepted": np.array([0.5, np.nan])}
    class_bars(axes, shares, names=["cat", "a very long name of a class"])
    widths = [[bar.get_width() for bar in group] for group in axes.containers]
    assert widths == [[0.2, 0.9], [0.5, 0.0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "a very long name …"]
    assert legend(axes) == ["right", "accepted"]
    first, second = (group[0] for group in axes.containers)
    assert first.get_y() < second.get_y()  # the y axis points down
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_class_scores_draw_each_class_on_its_line_with_the_threshold():
    axes = blank()
    known, unknown = scores_of(2.0)
    class_scores(
        axes,
        [known, unknown, np.array([-np.inf, np.inf])],
        names=["cat", "owl", "fox"],
        num_known=1,
        threshold=1.25,
        detector="msp",
    )
    for line, patch in enumerate(axes.patches):
        values, edges, baseline = patch.get_data()
        assert baseline == line + 0.45
        assert values.min() == pytest.approx(line - 0.45)  # each class has its own height
        assert edges[0] < 1.25 < edges[-1]
    colours = [to_hex(patch.get_facecolor()) for patch in axes.patches]
    assert colours == [style.KNOWN_COLOUR.lower(), *2 * [style.UNKNOWN_COLOUR.lower()]]
    assert legend(axes) == ["known", "unknown", "threshold 1.25: accepted up to here"]
    np.testing.assert_array_equal(lines(axes)["threshold 1.25: accepted up to here"].get_xdata(), 1.25)


def test_class_scores_of_one_value_and_an_infinite_threshold_can_be_drawn(tmp_path):
    axes = blank()
    class_scores(axes, [np.zeros(3)], names=["cat"], num_known=1, threshold=np.inf, detector="msp")
    style.save(axes.figure, tmp_path / "figure.png", 60)
    assert legend(axes) == ["known"]


def test_figures_by_class_refuse_what_they_cannot_show():
    with pytest.raises(InputError, match="1 to 60 classes, not 61"):
        class_bars(blank(), {"right": np.zeros(61)}, names=["x"] * 61)
    with pytest.raises(InputError, match=r"right must be 2 shares in 0\.\.1"):
        class_bars(blank(), {"right": np.array([0.5, 1.5])}, names=["cat", "dog"])
    with pytest.raises(InputError, match="1 to 3 quantities, not 0"):
        class_bars(blank(), {}, names=["cat"])
    place = {"num_known": 1, "threshold": 0.0, "detector": "msp"}
    with pytest.raises(InputError, match="2 classes need as many vectors of scores, not 1"):
        class_scores(blank(), [np.zeros(1)], names=["cat", "dog"], **place)
    with pytest.raises(InputError, match="at least one score, and none may be NaN"):
        class_scores(blank(), [np.array([np.nan])], names=["cat"], **place)
