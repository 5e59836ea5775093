"""Images on a plane: what t-SNE and UMAP are asked for, and how classes are told apart."""

import sys
import types

import numpy as np
import pytest
from drawings import (
    _styled,  # noqa: F401 (fixture)
    blank,
    legend,
    rng,
)

from osr.errors import InputError
from osr.plots import embedding as embeddings
from osr.plots import style
from osr.plots.embedding import embed, embed_umap, embedding, fitting_perplexity


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
