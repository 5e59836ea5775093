"""What a network was trained on is found again in files of any name, however the data set was read."""

from pathlib import Path

import numpy as np
import pytest
from image_folders import section
from PIL import Image

from osr.data.datasets import load_images
from osr.data.hashes import hashes_of
from osr.data.images import ImageFiles
from osr.errors import InputError
from osr.inference.trained_on import TrainedOn
from osr.stored.arrays import write_arrays
from osr.stored.origin import Origin

ORIGIN = Origin(weights="1" * 16, split="2" * 16)


def pixels(seed: int, *, size: tuple[int, int], channels: int) -> np.ndarray:
    shape = (*size, 3)[: 3 if channels == 3 else 2]
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write_images(folder: Path, *, channels: int, sizes: list[tuple[int, int]]) -> None:
    """Ten images of two classes, in files of several kinds."""
    for number in range(10):
        ending = ("png", "jpg", "bmp", "tif", "webp" if channels == 3 else "png")[number % 5]
        file = folder / f"images/{'ab'[number % 2]}/{number}.{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        image = pixels(number, size=sizes[number % len(sizes)], channels=channels)
        Image.fromarray(image).save(file)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("pack_size", "sizes"),
    [("none", [(9, 7), (30, 50)]), ("auto", [(9, 7)]), (5, [(9, 7), (300, 500)])],
)
def test_copies_are_found_and_nothing_else(tmp_path, channels, pack_size, sizes):
    write_images(tmp_path, channels=channels, sizes=sizes)
    data = load_images(section(tmp_path, pack_size=pack_size))
    assert isinstance(data.images, ImageFiles) == (pack_size == "none")
    size = None if isinstance(data.images, ImageFiles) else (data.images.shape[2], data.images.shape[1])
    trained_on = TrainedOn(np.unique(hashes_of(data)[:6]), size)
    files = [tmp_path / "images" / name for name in sorted_names(tmp_path)]
    copies = []
    for number, file in enumerate(files):
        copies.append(tmp_path / f"copy {number}")
        copies[-1].write_bytes(file.read_bytes())
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(files[0].read_bytes()[:60])
    found = trained_on.hashes_of([*copies, damaged], channels=channels)
    assert [trained_on.has(number) for number in found] == [True] * 6 + [False] * 5
    assert found[-1] is None


def sorted_names(root: Path) -> list[str]:
    """Of the images, in the order of the data set's rows."""
    files = (root / "images").rglob("*.*")
    return sorted(file.relative_to(root / "images").as_posix() for file in files)


@pytest.mark.parametrize("size", [None, (8, 9)])
def test_the_file_gives_back_what_was_saved(tmp_path, size):
    file, hashes = tmp_path / "trained_on.safetensors", np.array([3, 2**64 - 1], np.uint64)
    TrainedOn(hashes, size).save(file, ORIGIN)
    found = TrainedOn.load(file, ORIGIN)
    assert (found.hashes.tolist(), found.size) == (hashes.tolist(), size)


def test_a_file_of_other_weights_or_without_hashes_is_refused(tmp_path):
    file, hashes = tmp_path / "trained_on.safetensors", np.array([3, 4], np.uint64)
    TrainedOn(hashes, None).save(file, ORIGIN)
    with pytest.raises(InputError, match=r"trained_on\.safetensors"):
        TrainedOn.load(file, Origin(weights="9" * 16, split="2" * 16))
    for arrays in ({"hashes": hashes.astype(np.int64)}, {"hashes": hashes[None]}, {"others": hashes}):
        write_arrays(file, "training hashes", {"size": None}, ORIGIN, arrays)
        with pytest.raises(InputError, match="it holds no hashes"):
            TrainedOn.load(file, ORIGIN)
    for content in ({}, {"size": [0, 3]}, {"size": [3]}):
        write_arrays(file, "training hashes", content, ORIGIN, {"hashes": hashes})
        with pytest.raises(InputError, match="size"):
            TrainedOn.load(file, ORIGIN)
