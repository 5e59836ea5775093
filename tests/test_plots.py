"""Figures by what they draw: line data, legends, thresholds, cells; numbers from scikit-learn or by hand."""

import subprocess
import sys
import types
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from osr.errors import InputError
from osr.plots import embedding as embeddings
from osr.plots import style
from osr.plots.classes import class_bars, class_scores
from osr.plots.confusion import confusion
from osr.plots.curves import MAX_POINTS, oscr, precision_recall, roc, thin
from osr.plots.embedding import embed, embed_umap, embedding, fitting_perplexity
from osr.plots.gallery import Tile, gallery
from osr.plots.reliability import reliability
from osr.plots.scores import score_histogram
from osr.plots.training import training_curves

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _styled():
    with style.styled():
        yield


def blank(width=3.4, height=3.4):
    return style.canvas(width, height).subplots()


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def lines(axes):
    return {line.get_label().split("  ")[0]: line for line in axes.get_lines()}


def scores_of(shift, num_known=300, num_unknown=200):
    generator = np.random.default_rng(int(10 * shift))
    return generator.normal(size=num_known), generator.normal(shift, 1.3, num_unknown)


def oscr_points(known, unknown, correct):
    order = np.argsort(np.r_[known, unknown])
    is_unknown = np.r_[np.zeros(len(known)), np.ones(len(unknown))][order]
    right = np.r_[correct, np.zeros(len(unknown))][order]
    return np.r_[0, is_unknown.cumsum() / len(unknown)], np.r_[0, right.cumsum() / len(known)]


@pytest.fixture
def oscr_curves():
    correct = np.arange(300) % 20 != 0  # accuracy 0.95
    return {name: oscr_points(*scores_of(shift), correct) for name, shift in [("msp", 1.0), ("energy", 2.0)]}


# ---- curves


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


# ---- thin


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


# ---- score histogram


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


# ---- reliability


def table(counts, accuracies):
    centres = (np.arange(len(counts)) + 0.5) / len(counts)
    empty = np.array(counts) == 0
    confidence, accuracy = np.where(empty, np.nan, centres), np.where(empty, np.nan, accuracies)
    return {"confidence": confidence, "accuracy": accuracy, "count": np.array(counts)}


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


# ---- confusion


def test_confusion_writes_counts_and_colours_shares():
    matrix = np.array([[8, 0, 2], [1, 9, 0], [5, 0, 15]])
    axes = blank()
    confusion(axes, matrix, names=["cat", "dog"])
    written = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in axes.texts}
    assert sorted(written.values()) == sorted(["8", "2", "1", "9", "5", "15"])  # zeros stay blank
    cells = axes.collections[0].get_array()
    assert cells.shape == (4, 4)
    assert cells.mask[2].all()
    assert cells.mask[:, 2].all()  # the gap
    np.testing.assert_allclose(
        cells[np.ix_([0, 1, 3], [0, 1, 3])], matrix / matrix.sum(axis=1, keepdims=True)
    )
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["cat", "dog", "unknown"]
    rows = axes.get_yticks()
    assert rows[2] - rows[1] > rows[1] - rows[0]
    assert written[rows[2], axes.get_xticks()[2]] == "15"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first class on top


def test_confusion_row_without_images_is_blank_not_nan(tmp_path):
    axes = blank()
    confusion(axes, np.array([[3, 0, 1], [0, 0, 0], [0, 0, 4]]), names=["cat", "dog"])
    np.testing.assert_array_equal(axes.collections[0].get_array()[1, [0, 1, 3]], 0)
    style.save(axes.figure, tmp_path / "figure.png", 60)


@pytest.mark.parametrize(("num_known", "num_texts"), [(2, 9), (25, 26 * 26), (26, 0), (43, 0)])
def test_confusion_writes_up_to_25_classes_and_labels_all_on_a_page(num_known, num_texts):
    axes = blank(style.PAGE_WIDTH, 6.5)
    confusion(
        axes, np.full((num_known + 1, num_known + 1), 12), names=[f"class {n}" for n in range(num_known)]
    )
    assert len(axes.texts) == num_texts
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == [*(f"class {n}" for n in range(num_known)), "unknown"]
    assert min(tick.get_fontsize() for tick in axes.get_yticklabels()) >= 5


def test_confusion_in_a_column_thins_labels_without_overlap(tmp_path):
    axes = blank(3.4, 3.4)
    confusion(axes, np.eye(44, dtype=int), names=[f"a very long class name {n}" for n in range(43)])
    style.save(axes.figure, tmp_path / "figure.png", 100)
    labels = axes.get_yticklabels()
    assert 10 < len(labels) < 44
    assert labels[-1].get_text() == "unknown"
    assert labels[0].get_text() == "a very long class…"
    boxes = [label.get_window_extent() for label in labels]
    assert all(upper.y0 >= lower.y1 - 0.5 for upper, lower in pairwise(boxes))


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [(np.ones((2, 2)), "has shape .2, 2., but 2 names need .3, 3."), (-np.eye(3), "negative")],
)
def test_confusion_refuses_what_is_no_open_set_matrix(matrix, sentence):
    with pytest.raises(InputError, match=sentence):
        confusion(blank(), matrix, names=["cat", "dog"])


# ---- embedding


@pytest.mark.parametrize("num_images", [4, 5, 30, 91, 200])
def test_few_images_take_the_perplexity_that_they_allow(num_images):
    perplexity = fitting_perplexity(30.0, num_images)
    assert perplexity == (30.0 if num_images > 90 else pytest.approx((num_images - 1) / 3))
    features = np.random.default_rng(0).normal(size=(num_images, 8))
    points = embed(features, perplexity=perplexity, seed=0)
    assert points.shape == (num_images, 2)
    assert np.isfinite(points).all()


def test_embed_is_deterministic_and_separates_blobs():
    centres = np.array([[0.0] * 8, [20.0] * 8])
    features = centres[np.arange(60) % 2] + np.random.default_rng(0).normal(size=(60, 8))
    before = features.copy()
    points = embed(features, perplexity=10, seed=3)
    np.testing.assert_array_equal(points, embed(features, perplexity=10, seed=3))
    np.testing.assert_array_equal(features, before)
    assert points.shape == (60, 2)
    gap = np.linalg.norm(points[::2].mean(axis=0) - points[1::2].mean(axis=0))
    assert gap > 3 * points[::2].std(axis=0).max()


@pytest.mark.parametrize(
    ("features", "perplexity", "sentence"),
    [
        (np.eye(30), 30.0, "perplexity is 30, but must be above 0 and below the number of images, 30"),
        (np.eye(30)[:, :1], 5.0, "D >= 2"),
        (np.ones((30, 4)), 5.0, "are the same"),
        (np.full((30, 4), np.nan), 5.0, "finite"),
    ],
)
def test_embed_refuses_what_t_sne_cannot_spread(features, perplexity, sentence):
    with pytest.raises(InputError, match=sentence):
        embed(features, perplexity=perplexity, seed=0)


def test_umap_gets_the_features_and_the_seed(monkeypatch):
    """Of umap-learn, which the tests do not install, a stand-in."""
    asked = {}

    class Umap:
        def __init__(self, **settings):
            asked.update(settings)

        def fit_transform(self, features):
            return features[:, :2] + asked["random_state"]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Umap))
    monkeypatch.setattr(embeddings, "has_umap", lambda: True)
    features = rng.normal(size=(16, 4))
    np.testing.assert_allclose(embed_umap(features, seed=3), features[:, :2] + 3, rtol=1e-6)
    assert asked == {"n_neighbors": 15, "random_state": 3, "n_jobs": 1}
    with pytest.raises(InputError, match="UMAP needs more than 15 images, not 15"):
        embed_umap(features[:15], seed=3)
    monkeypatch.setattr(embeddings, "has_umap", lambda: False)
    with pytest.raises(InputError, match="needs the package umap-learn"):
        embed_umap(features, seed=3)


def test_embedding_draws_each_class_once_and_unknowns_as_crosses():
    axes = blank()
    labels = np.array([0, 1, 1, -1, -1, -1, -2])
    points = rng.normal(size=(7, 2))
    embedding(axes, points, labels=labels, names=["cat", "dog", "horse"], title="7 of 70 test images")
    drawn = {line.get_label(): line for line in axes.get_lines() if len(line.get_xdata())}
    assert list(drawn) == ["unknown", "background", "cat", "dog"]  # a class without images is left out
    np.testing.assert_allclose(drawn["unknown"].get_xydata(), points[labels == -1])
    np.testing.assert_allclose(drawn["dog"].get_xydata(), points[labels == 1])
    assert drawn["unknown"].get_marker() == "x"
    assert drawn["unknown"].get_color() == style.INK
    assert legend(axes) == ["unknown", "background", "cat", "dog"]
    assert axes.get_title() == "7 of 70 test images"


def test_embedding_tells_43_classes_apart_and_numbers_them():
    axes = blank(style.PAGE_WIDTH, 6)
    labels = np.arange(43).repeat(3)
    embedding(
        axes, rng.normal(size=(129, 2)), labels=labels, names=[f"sign {n}" for n in range(43)], title=""
    )
    drawn = [line for line in axes.get_lines() if len(line.get_xdata())]
    assert len({(line.get_color(), line.get_marker()) for line in drawn}) == 43
    assert [text.get_text() for text in axes.texts] == [str(number) for number in range(43)]
    assert legend(axes)[7] == "7 sign 7"


def test_embedding_refuses_labels_without_names():
    with pytest.raises(InputError, match=r"labels \[2\] have no name"):
        embedding(blank(), np.zeros((2, 2)), labels=np.array([0, 2]), names=["cat", "dog"], title="")
    with pytest.raises(InputError, match="one per label"):
        embedding(blank(), np.zeros((3, 2)), labels=np.array([0, 1]), names=["cat", "dog"], title="")


# ---- training curves


def history(num_epochs):
    epoch = np.arange(1, num_epochs + 1)
    return {
        "epoch": epoch,
        "train/loss": 2 * np.exp(-epoch / 5),
        "train/accuracy": 1 - 0.9 * np.exp(-epoch / 5),
        "val/loss": 2 * np.exp(-epoch / 5) + 0.1,
        "val/accuracy": 0.9 - 0.8 * np.exp(-epoch / 5),
        "lr": np.full(num_epochs, 0.1),
    }


def pair():
    return tuple(style.canvas(6.8, 3).subplots(1, 2))


def test_training_curves_mark_the_best_epoch():
    axes, columns = pair(), history(20)
    training_curves(axes, columns, best_epoch=17)
    for plane, quantity in zip(axes, ("loss", "accuracy"), strict=True):
        drawn = lines(plane)
        np.testing.assert_allclose(drawn["training"].get_ydata(), columns[f"train/{quantity}"])
        np.testing.assert_allclose(drawn["validation"].get_ydata(), columns[f"val/{quantity}"])
        value = columns[f"val/{quantity}"][16]
        assert legend(plane) == ["training", "validation", f"best epoch 17: {value:.3f}"]
        np.testing.assert_array_equal(drawn[f"best epoch 17: {value:.3f}"].get_xdata(), 17)
        assert plane.get_ylabel() == quantity
    assert axes[0].get_ylim()[0] == 0


def test_training_curves_of_one_epoch_show_a_dot(tmp_path):
    axes = pair()
    training_curves(axes, history(1), best_epoch=None)
    assert lines(axes[0])["training"].get_marker() == "o"
    assert axes[0].get_xlim() == (0.5, 1.5)
    assert legend(axes[0]) == ["training", "validation"]
    style.save(axes[0].figure, tmp_path / "figure.png", 60)


def test_training_curves_join_the_epochs_that_were_measured():
    columns = history(6)
    columns["val/loss"] = np.array([np.nan, 1.0, np.nan, 0.8, np.nan, 0.7])
    axes = pair()
    training_curves(axes, columns, best_epoch=6)
    np.testing.assert_array_equal(lines(axes[0])["validation"].get_xdata(), [2, 4, 6])


@pytest.mark.parametrize(
    ("change", "best_epoch", "sentence"),
    [
        ({"val/loss": None}, 1, "lacks val/loss"),
        ({"val/loss": np.zeros(2)}, 1, "one length"),
        ({}, 9, "best_epoch is 9, but the history covers epochs 1 to 5"),
    ],
)
def test_training_curves_refuse_broken_histories(change, best_epoch, sentence):
    columns = {name: values for name, values in (history(5) | change).items() if values is not None}
    with pytest.raises(InputError, match=sentence):
        training_curves(pair(), columns, best_epoch=best_epoch)


# ---- style and files


def draw_everything(folder):
    """One file per figure, drawn from the same arrays each time."""
    generator = np.random.default_rng(7)
    known, unknown = generator.normal(size=200), generator.normal(2, 1, 100)
    curve = {"msp": oscr_points(known, unknown, np.ones(200))}
    shares = np.linspace(0, 1, 11)
    names = ["cat", "dog"]
    points, labels = generator.normal(size=(50, 2)), np.arange(50) % 3 - 1
    drawings = {
        "oscr": lambda axes: oscr(axes, curve, log_x=False, areas={"msp": (0.8, 0.7, 0.9)}),
        "oscr_log": lambda axes: oscr(axes, curve, log_x=True),
        "roc": lambda axes: roc(axes, {"msp": (shares, np.sqrt(shares))}, areas={"msp": 0.667}),
        "pr": lambda axes: precision_recall(axes, {"msp": (shares, 1 - shares / 2)}, prevalence=0.5),
        "scores": lambda axes: score_histogram(
            axes, known, unknown_scores=unknown, threshold=1.6, name="msp"
        ),
        "reliability": lambda axes: reliability(axes, {"before": table([1, 3], [0, 1])}, ece={"before": 0.1}),
        "confusion": lambda axes: confusion(axes, np.eye(3, dtype=int), names=names),
        "embedding": lambda axes: embedding(axes, points, labels=labels, names=names, title="all"),
    }
    for name, draw in drawings.items():
        figure = style.canvas(3.4, 3.4)
        draw(figure.subplots())
        style.save(figure, folder / f"{name}.png", 100)
    axes = pair()
    training_curves(axes, history(9), best_epoch=9)
    style.save(axes[0].figure, folder / "training.png", 100)


def test_files_are_byte_identical_and_nothing_is_cut_off(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        draw_everything(folder)
    names = sorted(path.name for path in folders[0].iterdir())
    assert len(names) == 9  # and no partial file
    for name in names:
        content = (folders[0] / name).read_bytes()
        assert content == (folders[1] / name).read_bytes(), name
        assert b"Software" not in content
        assert b"matplotlib" not in content
        pixels = imread(folders[0] / name)[..., :3]
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (border == 1).all(), f"{name}: something reaches the edge of the picture"


def test_saving_a_figure_again_gives_the_same_bytes(tmp_path):
    axes = blank()
    confusion(axes, np.eye(3, dtype=int), names=["cat", "dog"])
    for name in ("first.png", "second.png"):
        style.save(axes.figure, tmp_path / name, 80)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


@pytest.mark.parametrize(("ending", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_vector_files_say_neither_when_nor_by_what_they_were_made(tmp_path, ending, start):
    for name in ("first", "second"):
        axes = blank()
        oscr(axes, {"msp": oscr_points(*scores_of(1.0), np.ones(300))}, log_x=True)
        style.save(axes.figure, tmp_path / f"{name}.{ending}", 80)
    content = (tmp_path / f"first.{ending}").read_bytes()
    assert content == (tmp_path / f"second.{ending}").read_bytes()
    assert content.startswith(start)
    for word in (b"CreationDate", b"Creator", b"Producer", b"<dc:date>"):
        assert word not in content


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"must end in .png, .pdf, .svg"):
        style.save(blank().figure, tmp_path / "figure.jpg", 80)


# ---- one line per class


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


# ---- galleries


def test_a_gallery_shows_the_pixels_and_the_words(tmp_path):
    grey = rng.integers(0, 256, (8, 8, 1), dtype=np.uint8)
    colour = rng.integers(0, 256, (90, 60, 3), dtype=np.uint8)
    figure = gallery([Tile(grey, ("cat", "score 1")), *[Tile(colour, ("dog",))] * 8], title="All")
    planes = [axes for axes in figure.axes if axes.images]
    assert len(planes) == 9
    assert len(figure.axes) == 16  # two lines of eight
    np.testing.assert_array_equal(planes[0].images[0].get_array(), grey[..., 0])
    assert planes[0].images[0].get_clim() == (0, 255)
    assert planes[0].images[0].get_interpolation() == "nearest"
    np.testing.assert_array_equal(planes[8].images[0].get_array(), colour)
    assert planes[8].images[0].get_interpolation() == "antialiased"
    assert planes[0].texts[0].get_text() == "cat\nscore 1"
    style.save(figure, tmp_path / "figure.png", 60)
    pixels = imread(tmp_path / "figure.png")[..., :3]
    assert (np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]) == 1).all()


def test_long_names_take_no_room_from_the_images(tmp_path):
    with style.styled():
        figure = gallery(
            [Tile(np.zeros((8, 8, 1), np.uint8), ("pickup_truck (near_cifar100)",))] * 8, title=""
        )
        style.save(figure, tmp_path / "figure.png", 60)
    widths = [axes.get_window_extent().width for axes in figure.axes]
    assert min(widths) > 0.85 * style.PAGE_WIDTH / 8 * 60


def test_a_gallery_refuses_nothing_and_what_is_no_image():
    with pytest.raises(InputError, match="at least one image"):
        gallery([], title="")
    with pytest.raises(InputError, match=r"not \(8, 8\) float64"):
        gallery([Tile(np.zeros((8, 8)), ())], title="")


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


def test_figures_import_neither_pyplot_nor_torch_nor_sklearn():
    modules = (
        "classes, confusion, curves, embedding, gallery, leaderboard, reliability, scores, style, training"
    )
    heavy = "{'matplotlib.pyplot', 'torch', 'sklearn'}"
    code = f"import sys; from osr.plots import {modules}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
