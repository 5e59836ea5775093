"""Curves by what they draw: OSCR, ROC, precision and recall, thinned ones; numbers from scikit-learn."""

import numpy as np
import pytest
from drawings import (
    _styled,  # noqa: F401 (fixture)
    blank,
    legend,
    lines,
    oscr_points,
    scores_of,
)
from matplotlib.colors import to_hex
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from osr.errors import InputError
from osr.plots import style
from osr.plots.curves import MAX_POINTS, oscr, precision_recall, roc, thin


@pytest.fixture
def oscr_curves():
    correct = np.arange(300) % 20 != 0  # accuracy 0.95
    return {name: oscr_points(*scores_of(shift), correct) for name, shift in [("msp", 1.0), ("energy", 2.0)]}


def test_oscr_draws_the_points_and_lists_the_best_first(oscr_curves):
    axes = blank()
    oscr(axes, oscr_curves, log_x=False, areas={"msp": (0.7, 0.65, 0.75), "energy": (0.9, 0.88, 0.92)})
    np.testing.assert_allclose(lines(axes)["msp"].get_xydata(), np.c_[oscr_curves["msp"]])
    assert legend(axes) == [
        "energy  0.900 [0.880, 0.920]",
        "msp  0.700 [0.650, 0.750]",
        "closed-set accuracy 0.950",
    ]
    assert axes.get_legend().get_title().get_text() == "AUOSCR [95 % interval]"
    np.testing.assert_allclose(lines(axes)["closed-set accuracy 0.950"].get_ydata(), 0.95)
    assert axes.get_xlim() == (0, 1)


def test_oscr_log_axis_starts_at_the_smallest_positive_fpr(oscr_curves):
    axes = blank()
    oscr(axes, oscr_curves, log_x=True)
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == pytest.approx((1 / 200, 1))
    fpr, ccr = oscr_curves["energy"]
    drawn = lines(axes)["energy"].get_xydata()
    assert tuple(drawn[0]) == pytest.approx(
        (1 / 200, ccr[fpr == 0].max())
    )  # what was reached before any unknown
    assert drawn[:, 0].min() > 0
    np.testing.assert_allclose(drawn[1:], np.c_[fpr, ccr][fpr > 0])
    assert legend(axes) == ["msp", "energy", "closed-set accuracy 0.950"]  # no areas: the order given


def test_oscr_shades_the_band_of_one_curve(oscr_curves):
    axes = blank()
    fpr = np.array([0.01, 0.1, 1.0])
    band = ("energy", fpr, np.array([0.1, 0.2, 0.9]), np.array([0.3, 0.5, 0.97]))
    oscr(axes, oscr_curves, log_x=True, band=band, confidence=0.9)
    (shade,) = axes.collections
    corners = shade.get_paths()[0].vertices
    assert {0.1, 0.2, 0.3, 0.5} <= {round(float(y), 6) for y in corners[:, 1]}
    assert to_hex(shade.get_facecolor()[0]) == to_hex(lines(axes)["energy"].get_color())
    assert legend(axes)[-1] == "90 % band of energy"
    with pytest.raises(InputError, match="The band is of 'knn', but the curves are msp, energy"):
        oscr(blank(), oscr_curves, log_x=True, band=("knn", *band[1:]))


def test_oscr_of_a_single_unknown_has_a_log_axis(tmp_path):
    axes = blank()
    oscr(axes, {"msp": oscr_points(np.array([0.1, 0.2, 0.9]), np.array([0.5]), np.ones(3))}, log_x=True)
    assert axes.get_xlim() == pytest.approx((0.1, 1))
    np.testing.assert_allclose(lines(axes)["msp"].get_xydata(), [[0.1, 2 / 3], [1, 2 / 3], [1, 1]])
    style.save(axes.figure, tmp_path / "figure.png", 60)


def test_oscr_of_constant_scores_is_one_straight_line():
    axes = blank()
    oscr(axes, {"msp": (np.array([0.0, 1.0]), np.array([0.0, 0.8]))}, log_x=False, areas={"msp": 0.4})
    assert legend(axes) == ["msp  0.400", "closed-set accuracy 0.800"]
    assert axes.get_legend().get_title().get_text() == "AUOSCR"


def test_oscr_of_several_networks_shows_each_accuracy():
    axes = blank()
    curves = {
        "a": (np.array([0.0, 1.0]), np.array([0.0, 0.8])),
        "b": (np.array([0.0, 1.0]), np.array([0.0, 0.9])),
    }
    oscr(axes, curves, log_x=False)
    assert legend(axes)[-1] == "closed-set accuracy 0.800 to 0.900"
    heights = {line.get_ydata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"}
    assert heights == {0.8, 0.9}


def test_roc_matches_scikit_learn_and_draws_chance():
    known, unknown = scores_of(1.5)
    truth, scores = np.r_[np.zeros(300), np.ones(200)], np.r_[known, unknown]
    fpr, tpr, _ = roc_curve(truth, scores)
    area = roc_auc_score(truth, scores)
    axes = blank()
    roc(
        axes, {"knn": (fpr[::-1], tpr[::-1])}, areas={"knn": (area, area - 0.02, area + 0.01)}, confidence=0.9
    )
    np.testing.assert_allclose(lines(axes)["knn"].get_xydata(), np.c_[fpr, tpr])
    np.testing.assert_allclose(lines(axes)["chance"].get_xydata(), [[0, 0], [1, 1]])
    assert legend(axes) == [f"knn  {area:.3f} [{area - 0.02:.3f}, {area + 0.01:.3f}]", "chance"]
    assert axes.get_legend().get_title().get_text() == "AUROC [90 % interval]"


def test_precision_recall_steps_enclose_average_precision():
    known, unknown = scores_of(1.5)
    precision, recall, _ = precision_recall_curve(np.r_[np.zeros(300), np.ones(200)], np.r_[known, unknown])
    axes = blank()
    precision_recall(axes, {"knn": (recall, precision)}, prevalence=0.4)
    line = lines(axes)["knn"]
    x, y = line.get_data()
    assert line.get_drawstyle() == "steps-pre"
    drawn_area = (np.diff(x) * y[1:]).sum()  # steps-pre: each step has the height of its right end
    assert drawn_area == pytest.approx(-(np.diff(recall) * precision[:-1]).sum())
    assert legend(axes) == ["knn", "chance (prevalence 0.400)"]
    np.testing.assert_allclose(lines(axes)["chance (prevalence 0.400)"].get_ydata(), 0.4)
    assert axes.get_xlabel() == "recall of unknowns"


def test_a_detector_looks_the_same_in_every_figure_and_differs_from_the_others():
    names = [f"detector{number}" for number in range(24)]
    diagonal = (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    curves = dict.fromkeys(names, diagonal)
    first, second = blank(), blank()
    roc(first, curves, areas={name: number / 24 for number, name in enumerate(names)})
    oscr(second, curves, log_x=False, areas={name: -number / 24 for number, name in enumerate(names)})
    looks = {name: style.line_style(position) for position, name in enumerate(names)}
    assert len({str(look) for look in looks.values()}) == 24
    for name in names:
        assert lines(first)[name].get_color() == lines(second)[name].get_color() == looks[name]["color"]
    assert legend(first)[0].startswith("detector23")
    assert legend(second)[0].startswith("detector0")


@pytest.mark.parametrize(
    ("curves", "areas", "sentence"),
    [
        ({}, None, "no curve"),
        ({"msp": ([0, 1], [0, np.nan])}, None, "msp holds a NaN"),
        ({"msp": ([0, 0.5, 0.2], [0, 1, 1])}, None, "must rise or fall"),
        ({"msp": ([0, 1], [0])}, None, "one length"),
        ({"msp": ([0, 1], [0, 1])}, {"energy": 0.5}, "areas lacks msp"),
    ],
)
def test_curves_that_cannot_be_drawn_are_refused(curves, areas, sentence):
    with pytest.raises(InputError, match=sentence):
        roc(blank(), curves, areas=areas)


def test_thin_keeps_ends_extremes_and_look():
    x = np.linspace(0, 1, 1_000_000)
    y = np.sqrt(x)
    y[123_456], y[765_432] = 5.0, -3.0
    kept_x, kept_y = thin(x, y, max_points=2000)
    assert 1000 < len(kept_x) <= 2000
    assert (kept_x[0], kept_y[0], kept_x[-1], kept_y[-1]) == (x[0], y[0], x[-1], y[-1])
    assert (kept_y.max(), kept_y.min()) == (5.0, -3.0)
    assert (np.diff(kept_x) > 0).all()
    away = np.abs(x - x[123_456]) > 0.01
    away &= np.abs(x - x[765_432]) > 0.01
    away &= x > 0.01  # the root is steep at 0: a column there is as high as the line in it
    assert np.abs(np.interp(x, kept_x, kept_y) - y)[away].max() < 1e-3


def test_thin_keeps_vertical_steps_and_falling_x():
    x = np.r_[np.full(5000, 1.0), np.linspace(1, 0, 5000)]
    y = np.r_[np.linspace(1, 0.5, 5000), np.full(5000, 0.5)]
    kept_x, kept_y = thin(x, y, max_points=400)
    assert len(kept_x) <= 400
    assert {(1.0, 1.0), (1.0, 0.5), (0.0, 0.5)} <= set(zip(kept_x, kept_y, strict=True))


@pytest.mark.parametrize("length", [0, 1, 4])
def test_thin_returns_short_curves_unchanged(length):
    x = np.arange(length, dtype=float)
    np.testing.assert_array_equal(thin(x, x + 1, max_points=4), (x, x + 1))


def test_thin_of_constant_x_keeps_the_extremes():
    y = np.array([3.0, 1, 2, 9, 4, 5, 6])
    np.testing.assert_array_equal(thin(np.ones(7), y, max_points=4)[1], [3, 1, 9, 6])


def test_thin_needs_four_points():
    with pytest.raises(InputError, match="at least 4"):
        thin(np.arange(9.0), np.arange(9.0), max_points=3)


@pytest.mark.parametrize("log_x", [False, True])
def test_a_curve_of_millions_is_thinned(log_x):
    fpr = np.linspace(0, 1, 1_000_001)
    axes = blank()
    oscr(axes, {"msp": (fpr, 0.9 * fpr**0.3)}, log_x=log_x)
    x, y = lines(axes)["msp"].get_data()
    assert len(x) <= MAX_POINTS
    inner = np.linspace(0.01, 1, 1000)
    np.testing.assert_allclose(np.interp(inner, x, y), 0.9 * inner**0.3, atol=1e-3)


def test_legends_stay_clear_of_axes_and_labels(oscr_curves):
    axes = blank()
    oscr(axes, oscr_curves, log_x=True)
    axes.figure.draw_without_rendering()
    assert axes.get_legend().get_window_extent().y1 < axes.xaxis.label.get_window_extent().y0


def test_inputs_stay_untouched():
    x, y = np.linspace(1, 0, 50), np.linspace(1, 0.2, 50)
    copies = x.copy(), y.copy()
    precision_recall(blank(), {"msp": (x, y)}, prevalence=0.2)
    np.testing.assert_array_equal((x, y), copies)
