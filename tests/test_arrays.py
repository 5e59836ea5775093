"""The user's own .npz: what it may hold, what it becomes, and one sentence for everything else."""

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from datasets import dataset
from numpy.testing import assert_array_equal

from osr.data.datasets import load_images
from osr.data.images import ImageSet
from osr.errors import InputError

GREY = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
LABELS = np.array([5, 5, 9, 9, 2, 2])


def read(folder: Path, content: dict, **names: object) -> ImageSet:
    np.savez(folder / "images.npz", **content)
    return load_images(dataset("arrays", folder, **names))


def test_images_and_whole_numbers(tmp_path: Path) -> None:
    data = read(tmp_path, {"images": GREY, "labels": LABELS})
    assert_array_equal(data.images, GREY[..., None])
    assert data.class_names == ("2", "5", "9")
    assert data.targets.tolist() == [1, 1, 2, 2, 0, 0]
    assert data.targets.dtype == np.int64
    assert data.parts is data.groups is None


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_stay(tmp_path: Path, channels: int) -> None:
    images = np.zeros((6, 4, 5, channels), np.uint8)
    assert read(tmp_path, {"images": images, "labels": LABELS}).images.shape == images.shape


def test_text_labels(tmp_path: Path) -> None:
    labels = np.array(["dog", "cat", "dog", "ÄÖ", "cat", "dog"])
    data = read(tmp_path, {"images": GREY, "labels": labels})
    assert data.class_names == ("cat", "dog", "ÄÖ")
    assert data.targets.tolist() == [1, 0, 1, 2, 0, 1]
    names = np.array(["dog", "cat", "owl", "ÄÖ"])
    data = read(tmp_path, {"images": GREY, "labels": labels, "class_names": names})
    assert data.class_names == ("dog", "cat", "owl", "ÄÖ")
    assert data.targets.tolist() == [0, 1, 0, 3, 1, 0]


def test_whole_numbers_are_positions_in_class_names(tmp_path: Path) -> None:
    content = {
        "x": GREY,
        "y": np.array([0, 1, 1, 0, 3, 3], np.uint8),
        "classes": np.array(["a", "b", "c", "d"]),
    }
    data = read(tmp_path, content, images="x", labels="y", class_names="classes")
    assert data.targets.tolist() == [0, 1, 1, 0, 3, 3]
    assert data.class_names == ("a", "b", "c", "d")
    with pytest.raises(InputError, match=r"targets must lie in 0\.\.1"):
        read(
            tmp_path,
            content | {"classes": np.array(["a", "b"])},
            images="x",
            labels="y",
            class_names="classes",
        )


def test_test_images_in_arrays_of_their_own(tmp_path: Path) -> None:
    content = {"x_train": GREY, "y_train": LABELS, "x_test": GREY[:2] + 1, "y_test": LABELS[:2]}
    names = {"images": "x_train", "labels": "y_train", "test_images": "x_test", "test_labels": "y_test"}
    data = read(tmp_path, content, **names)
    assert data.parts.tolist() == ["train"] * 6 + ["test"] * 2
    assert_array_equal(data.images[6:, ..., 0], GREY[:2] + 1)
    with pytest.raises(InputError, match=r"both say which images are the test; set one to none"):
        read(tmp_path, content | {"part": np.repeat("train", 6)}, **names)
    with pytest.raises(InputError, match=r"must have the shape of those to train on"):
        read(tmp_path, content | {"x_test": GREY[:2, :3]}, **names)


def test_part_and_group_are_found_by_their_names(tmp_path: Path) -> None:
    part = np.array(["train", "test", "val"] * 2)
    content = {
        "images": GREY,
        "labels": LABELS,
        "part": part,
        "group": np.array(["b", "b", "a", "a", "c", "c"]),
    }
    data = read(tmp_path, content)
    assert data.parts.tolist() == part.tolist()
    assert data.groups.tolist() == [1, 1, 0, 0, 2, 2]
    data = read(tmp_path, content, part="none", group=())
    assert data.parts is data.groups is None


def test_several_arrays_make_a_group_together(tmp_path: Path) -> None:
    content = {"images": GREY, "labels": LABELS, "track": np.array([0, 1, 0, 0, 0, 1])}
    data = read(tmp_path, content, group=("labels", "track"))
    assert data.groups.tolist() == [2, 3, 4, 4, 0, 1]


@pytest.mark.parametrize(
    ("content", "names", "sentence"),
    [
        (
            {"image": GREY, "labels": LABELS},
            {},
            "dataset.arrays.images: {} has no array 'images'; did you mean 'image'?",
        ),
        (
            {"images": GREY, "q": LABELS},
            {},
            "dataset.arrays.labels: {} has no array 'labels'; it has: images, q.",
        ),
        (
            {"images": GREY, "labels": LABELS},
            {"group": ("track",)},
            "dataset.arrays.group: {} has no array 'track'; it has: images, labels.",
        ),
        (
            {"images": GREY, "labels": LABELS / 2},
            {},
            "dataset.arrays.labels must be whole numbers or text of shape (N,), not float64 (6,).",
        ),
        (
            {"images": GREY, "labels": np.array(["a"] * 6), "class_names": np.array(["b"])},
            {},
            "dataset.arrays.labels: class 'a' is not among dataset.arrays.class_names.",
        ),
        (
            {"images": GREY, "labels": LABELS, "part": np.zeros(6, int)},
            {},
            "dataset.arrays.part must hold the text train, val or test, not int64.",
        ),
        (
            {"images": GREY, "labels": LABELS, "part": np.array(["dev"] * 6)},
            {},
            "parts must be train, val or test, not 'dev'.",
        ),
        (
            {"images": GREY / 2, "labels": LABELS},
            {},
            "images must be uint8 of shape (N, H, W, 1 or 3), not float64 (6, 4, 4, 1).",
        ),
        ({"images": GREY, "labels": LABELS[:5]}, {}, "6 images need as many targets, not (5,)."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, content: dict, names: dict, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, content, **names)
    assert str(error.value) == sentence.format(tmp_path / "images.npz")


def test_pickles_and_broken_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    with pytest.raises(InputError, match=r"images.npz is missing; put your .npz there"):
        load_images(dataset("arrays", tmp_path))
    np.savez(path, images=np.array([{}], dtype=object), labels=LABELS)
    with pytest.raises(InputError, match=r"must be a whole .npz of plain arrays, without pickled objects"):
        load_images(dataset("arrays", tmp_path))
    np.savez(path, images=GREY, labels=LABELS)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:200] + b"\xff" * 9 + whole[209:]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"must be a whole .npz of plain arrays"):
            load_images(dataset("arrays", tmp_path))
    with path.open("wb") as file:
        np.save(file, GREY)
    with pytest.raises(InputError, match=r"must be a whole .npz of plain arrays"):
        load_images(dataset("arrays", tmp_path))


def test_what_memory_cannot_hold_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.zeros((20, 64, 64, 3), np.uint8)
    np.savez_compressed(tmp_path / "images.npz", images=images, labels=LABELS, other=np.zeros(10**6))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100_000))
    monkeypatch.setattr(np.lib.format, "read_array", None)  # nothing is unpacked
    with pytest.raises(InputError, match=r"images\.npz unpacks to 0\.0 GiB, but 0\.0 GiB of memory are free"):
        load_images(dataset("arrays", tmp_path))


def test_a_header_that_speaks_of_more_than_there_is(tmp_path: Path) -> None:
    header = io.BytesIO()
    shape = (1 << 40, 1 << 10)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    np.savez(tmp_path / "images.npz", labels=LABELS)
    with zipfile.ZipFile(tmp_path / "images.npz", "a") as packed:
        packed.writestr("images.npy", header.getvalue() + bytes(9))
    with pytest.raises(InputError, match=r"the header of images speaks of 1,125,899,906,842,624 bytes"):
        load_images(dataset("arrays", tmp_path))


def test_damaged_archives_end_in_one_sentence(tmp_path: Path) -> None:
    path, rng = tmp_path / "images.npz", np.random.default_rng(0)
    for save in (np.savez, np.savez_compressed):
        save(path, images=GREY, labels=LABELS)
        whole, said = path.read_bytes(), []
        for _ in range(300):
            changed = bytearray(whole)
            for place in rng.integers(0, len(whole), rng.integers(1, 4)):
                changed[place] = rng.integers(256)
            path.write_bytes(changed)
            try:
                load_images(dataset("arrays", tmp_path))
            except InputError as error:
                said.append(str(error))
        assert len(said) > 100
        assert all("images" in sentence for sentence in said)
