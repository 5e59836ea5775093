"""Training images beside a classifier: chosen, small, and found again by who is near to them."""

import contextlib
import http.client
import io

import numpy as np
import pytest
from extracted import IMAGES
from numpy.testing import assert_array_equal
from PIL import Image
from test_export import folder  # noqa: F401 (fixture)
from test_predict import LABELS, exportable, known_outputs, model, run  # noqa: F401 (fixtures)
from test_service import FILES, Server

import osr
from osr.errors import InputError
from osr.inference.training_images import SIDE, TrainingImages, chosen_rows, thumbnail, unit_float16
from osr.stored.origin import Origin
from pipeline import cli
from pipeline.workspace.stages import TRAIN_OUTPUTS


@pytest.fixture
def with_images(exportable, model):  # noqa: F811
    """A folder with four training images of each of the three classes."""
    known_outputs(model).save(exportable / TRAIN_OUTPUTS)
    assert cli.main(["export", "classifier", "--neighbours", "4"]) == 0
    return exportable / "classifier"


def test_an_image_that_is_in_the_folder_is_its_own_neighbour(with_images):
    classifier = osr.load(with_images)
    held, found = classifier.training_images, classifier.predict(IMAGES, neighbours=12)
    assert_array_equal(np.bincount(held.labels), [4, 4, 4])
    features = classifier.outputs(IMAGES).features.astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    rows = [next(i for i in range(30) if (thumbnail(IMAGES[i]) == small).all()) for small in held.thumbnails]
    assert_array_equal(LABELS[rows], held.labels)
    for row, near in enumerate(found.neighbours):
        similar = features[rows] @ features[row]
        assert [one.similarity for one in near] == pytest.approx(sorted(similar, reverse=True), abs=2e-3)
        for number, name, alike in near:
            assert name == "abc"[held.labels[number]]
            assert alike == pytest.approx(similar[number], abs=2e-3)
        if row in rows:
            own = next(one.similarity for one in near if one.number == rows.index(row))
            assert near[0].similarity - 1e-3 <= own <= 1 + 1e-9
    part = found.part(slice(3, 5))
    assert part.neighbours == found.neighbours[3:5]
    assert classifier.predict(IMAGES).neighbours == ()
    assert classifier.predict(IMAGES).labels == found.labels
    assert "up to 4 training images" in (with_images / "README.md").read_text()


def test_what_cannot_be_shown_is_one_sentence(with_images, folder_without):
    for count in (13, -1):
        with pytest.raises(InputError, match=rf"neighbours is {count}, but must lie in 0\.\.12\."):
            osr.load(with_images).predict(IMAGES[:1], neighbours=count)
    with pytest.raises(InputError, match="holds no training images: `osr export --neighbours N`"):
        osr.load(folder_without).predict(IMAGES[:1], neighbours=1)


@pytest.fixture
def folder_without(exportable):  # noqa: F811
    with contextlib.chdir(exportable):
        assert cli.main(["export", "without"]) == 0
    return exportable / "without"


def test_training_images_of_another_network_or_shape_are_refused(with_images, tmp_path):
    file, arrays = tmp_path / "n.safetensors", osr.load(with_images).training_images
    origin = osr.load(with_images).parts.model.origin
    arrays.save(file, Origin(weights="9" * 16, split=origin.split))
    with pytest.raises(InputError, match=r"n\.safetensors"):
        TrainingImages.load(file, origin, num_classes=3)
    for wrong in (
        {"labels": arrays.labels + 1},
        {"labels": arrays.labels[:3]},
        {"thumbnails": arrays.thumbnails[:, :8]},
        {"features": arrays.features[0]},
    ):
        TrainingImages(**(vars(arrays) | wrong)).save(file, origin)
        with pytest.raises(InputError, match=r"n\.safetensors is damaged"):
            TrainingImages.load(file, origin, num_classes=3)
    arrays.save(file, origin)
    assert_array_equal(TrainingImages.load(file, origin, num_classes=3).features, arrays.features)
    with pytest.raises(InputError, match="The features have 4 numbers"):
        arrays.nearest(np.ones((1, 4), np.float32), 1, ("a", "b", "c"))
    whole = (with_images / "neighbours.safetensors").read_bytes()
    (with_images / "neighbours.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"neighbours\.safetensors was changed after the export"):
        osr.load(with_images)
    (with_images / "neighbours.safetensors").unlink()
    with pytest.raises(InputError, match=r"neighbours\.safetensors is missing"):
        osr.load(with_images)


def test_rows_are_drawn_from_each_class_and_not_from_background():
    labels = np.array([2, 0, -2, 0, 2, 0, -1, 2])
    rows = chosen_rows(labels, 2)
    assert_array_equal(np.sort(labels[rows]), [0, 0, 2, 2])
    assert_array_equal(rows, np.sort(rows))
    assert_array_equal(chosen_rows(labels, 9), np.flatnonzero(labels >= 0))
    draws = {tuple(chosen_rows(labels, 2, seed=seed)) for seed in range(20)}
    assert len(draws) > 1
    assert chosen_rows(labels[:0], 2).shape == (0,)


@pytest.mark.parametrize("size", [(6, 6), (8, 31), (64, 64), (65, 2), (640, 480), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnails_keep_the_shape_of_the_image(size, channels):
    image = np.full((*size, channels), 7, np.uint8)
    small = thumbnail(image)
    assert (small.shape, small.dtype) == ((SIDE, SIDE, channels), np.uint8)
    inside = (small == 7).all(-1)
    height, width = (np.count_nonzero(inside.any(axis)) for axis in (1, 0))
    assert inside.sum() == height * width
    assert max(height, width) > SIDE / 2
    assert height / width == pytest.approx(size[0] / size[1], rel=0.6 if min(size) < 3 else 0.02)


def test_features_of_nothing_are_similar_to_nothing():
    held = TrainingImages(
        np.zeros((2, SIDE, SIDE, 1), np.uint8),
        unit_float16(np.array([[0, 0], [3e5, 4e5]], np.float32)),
        np.array([0, 1]),
    )
    ((first, second),) = held.nearest(np.array([[6e-9, 8e-9]], np.float32), 2, ("a", "b"))
    assert (first.number, first.class_name, second.similarity) == (1, "b", 0.0)
    assert first.similarity == pytest.approx(1, abs=1e-3)


def test_the_server_names_and_shows_them(with_images, folder_without):
    with Server(osr.load(with_images)) as server:
        assert server.ask(method="GET", path="/health")[1]["training_images"] == 12
        expected = server.classifier.predict(IMAGES[:1], neighbours=3).neighbours[0]
        status, content = server.ask(FILES[0], query="?neighbours=3")
        near = content["verdicts"][0]["neighbours"]
        assert status == 200
        assert [one["label"] for one in near] == [one.class_name for one in expected]
        assert [one["similarity"] for one in near] == pytest.approx([one.similarity for one in expected])
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/" + near[0]["image"])
        picture = np.asarray(Image.open(io.BytesIO(connection.getresponse().read())))
        connection.close()
        held = server.classifier.training_images
        assert_array_equal(picture, held.thumbnails[expected[0].number][..., 0])
        assert "neighbours" not in server.ask(FILES[0])[1]["verdicts"][0]
        for query, said in (("13", "neighbours must be a whole number in 0..12."), ("x", "whole number")):
            status, content = server.ask(FILES[0], query=f"?neighbours={query}")
            assert status == 422
            assert said in content["error"]
        for number in ("12", "-1", "x", "9" * 40):
            found = server.ask(method="GET", path=f"/training_images/{number}")
            assert found == (404, {"error": "There are 12 training images."})
    with Server(osr.load(folder_without)) as server:
        status, content = server.ask(FILES[0], query="?neighbours=1")
        assert status == 422
        assert "holds no training images: `osr export --neighbours N`" in content["error"]
        assert server.ask(method="GET", path="/training_images/0")[0] == 404


def test_a_new_version_keeps_them(with_images, tmp_path):
    photos = tmp_path / "new_photos"
    photos.mkdir()
    for number, content in enumerate(FILES):
        (photos / f"{number}.png").write_bytes(content)
    asked = ["recalibrate", str(with_images), str(photos), "--out", "renewed", "--accept", "0.9"]
    assert cli.main(asked) == 0
    labels = osr.load(with_images).training_images.labels
    assert_array_equal(osr.load("renewed").training_images.labels, labels)
