"""Figures: confusion, training curves and galleries by what they draw; their files, byte for byte."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from drawings import (
    _styled,  # noqa: F401 (fixture)
    blank,
    history,
    legend,
    lines,
    oscr_points,
    pair,
    rng,
    scores_of,
    table,
)
from matplotlib.image import imread

from osr.errors import InputError
from osr.plots import style
from osr.plots.confusion import confusion
from osr.plots.curves import oscr, precision_recall, roc
from osr.plots.embedding import embedding
from osr.plots.gallery import Tile, gallery
from osr.plots.reliability import reliability
from osr.plots.scores import score_histogram
from osr.plots.training import training_curves


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


def test_figures_import_neither_pyplot_nor_torch_nor_sklearn():
    modules = (
        "classes, confusion, curves, embedding, gallery, leaderboard, reliability, scores, style, training"
    )
    heavy = "{'matplotlib.pyplot', 'torch', 'sklearn'}"
    code = f"import sys; from osr.plots import {modules}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
