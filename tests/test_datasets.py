"""Data sets: registered ones keep the contract, files that are not there are named, own code is found."""

import gzip
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from datasets import SHARED, dataset
from numpy.testing import assert_array_equal
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits

from osr.data import vision
from osr.data.datasets import DATASETS, load_images
from osr.data.hashes import hashes_of
from osr.errors import InputError

PUBLISHED = sorted(DATASETS.keys() - {"digits", "arrays", "folder", "csv", "tinyimagenet"})


def write_idx(path: Path, array: np.ndarray) -> None:
    """A file as MNIST's, unpacked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def images_like(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_digits_are_those_of_scikit_learn() -> None:
    data, bunch = load_images(dataset("digits")), load_digits()
    assert data.images.shape == (1797, 8, 8, 1)
    assert data.class_names == tuple("0123456789")
    assert data.parts is data.groups is None
    assert_array_equal(data.targets, bunch.target)
    # 0..16 set points of a block become 0..255.
    assert_array_equal(np.round(data.images[..., 0] / (255 / 16)), bunch.images)
    assert data.images.max() == 255
    assert sorted(set(data.images.ravel().tolist()))[:3] == [0, 16, 32]


@pytest.mark.parametrize(
    ("name", "folder", "prefix"),
    [
        ("mnist", "MNIST", ("train", "t10k")),
        ("fashion_mnist", "FashionMNIST", ("train", "t10k")),
        ("kmnist", "KMNIST", ("train", "t10k")),
        ("emnist_letters", "EMNIST", ("emnist-letters-train", "emnist-letters-test")),
    ],
)
def test_idx_files(tmp_path: Path, name: str, folder: str, prefix: tuple[str, str]) -> None:
    train, test = images_like((12, 28, 28)), images_like((11, 28, 28), 1)
    first = 1 if name == "emnist_letters" else 0
    for part, images in zip(prefix, (train, test), strict=True):
        write_idx(tmp_path / folder / "raw" / f"{part}-images-idx3-ubyte", images)
        write_idx(
            tmp_path / folder / "raw" / f"{part}-labels-idx1-ubyte", np.arange(len(images)) % 10 + first
        )
    data = load_images(dataset(name, tmp_path))
    expected = np.concatenate([train, test])[..., None]
    assert_array_equal(data.images, expected.transpose(0, 2, 1, 3) if first else expected)
    assert data.targets.tolist() == [*range(10), 0, 1, *range(10), 0]
    assert data.parts.tolist() == ["train"] * 12 + ["test"] * 11
    assert len(data.class_names) == (26 if first else 10)


def test_svhn(tmp_path: Path) -> None:
    for part, seed in (("train", 0), ("test", 1)):
        pixels = images_like((32, 32, 3, 4), seed)
        savemat(tmp_path / f"{part}_32x32.mat", {"X": pixels, "y": np.array([[1], [9], [10], [2]])})
    from torchvision.datasets import SVHN

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SVHN, "_check_integrity", lambda _: True)
        patch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
        data = load_images(dataset("svhn", tmp_path))
    assert data.targets.tolist() == [1, 9, 0, 2] * 2  # the file's 10 is the digit 0
    assert_array_equal(data.images[:4], images_like((32, 32, 3, 4)).transpose(3, 0, 1, 2))
    assert data.parts.tolist() == ["train"] * 4 + ["test"] * 4


def write_cifar(root: Path, num_classes: int) -> None:
    folder = root / ("cifar-10-batches-py" if num_classes == 10 else "cifar-100-python")
    folder.mkdir()
    names, key = (f"class {number} of {num_classes}" for number in range(num_classes)), "labels"
    files, meta, meta_key = (
        [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"],
        "batches.meta",
        "label_names",
    )
    if num_classes == 100:
        files, meta, meta_key, key = ["train", "test"], "meta", "fine_label_names", "fine_labels"
    for seed, file in enumerate(files):
        entry = {"data": images_like((4, 3072), seed), key: [0, 1, 2, num_classes - 1]}
        (folder / file).write_bytes(pickle.dumps(entry))
    (folder / meta).write_bytes(pickle.dumps({meta_key: list(names)}))


def test_cifar10_and_100_stand_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    write_cifar(tmp_path, 10)
    write_cifar(tmp_path, 100)
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda _: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    ten, hundred = (load_images(dataset(name, tmp_path)) for name in ("cifar10", "cifar100"))
    both = load_images(dataset("cifar10+100", tmp_path))
    assert ten.images.shape == (24, 32, 32, 3)
    assert ten.parts.tolist() == ["train"] * 20 + ["test"] * 4
    assert_array_equal(ten.images[0], images_like((4, 3072))[0].reshape(3, 32, 32).transpose(1, 2, 0))
    assert_array_equal(both.images, np.concatenate([ten.images, hundred.images]))
    assert_array_equal(both.targets, np.concatenate([ten.targets, hundred.targets + 10]))
    assert both.class_names == ten.class_names + hundred.class_names
    assert_array_equal(both.parts, np.concatenate([ten.parts, hundred.parts]))


def test_gtsrb_is_resized_and_grouped_by_track(tmp_path: Path) -> None:
    training, test = (tmp_path / "gtsrb/GTSRB" / part for part in ("Training", "Final_Test/Images"))
    for sign in (0, 1):
        (training / f"{sign:05d}").mkdir(parents=True)
        for track in (0, 1):
            for frame in (0, 1):
                Image.new("RGB", (20 + frame, 40), (100 * sign, 50 * track, 0)).save(
                    training / f"{sign:05d}" / f"{track:05d}_{frame:05d}.ppm"
                )
    test.mkdir(parents=True)
    for row in range(2):
        Image.new("RGB", (50, 50)).save(test / f"{row:05d}.ppm")
    (tmp_path / "gtsrb/GT-final_test.csv").write_text(
        "Filename;Width;ClassId\n00000.ppm;50;42\n00001.ppm;50;7\n"
    )
    data = load_images(dataset("gtsrb", tmp_path))
    assert data.images.shape == (10, 32, 32, 3)
    assert data.images[6].reshape(-1, 3)[0].tolist() == [100, 50, 0]
    assert data.targets.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 42, 7]
    assert (
        data.groups.tolist()
        == [data.groups[0]] * 2
        + [data.groups[2]] * 2
        + [data.groups[4]] * 2
        + [data.groups[6]] * 2
        + data.groups[8:].tolist()
    )
    assert len(set(data.groups.tolist())) == 6
    assert len(data.class_names) == 43
    (training / "00000" / "00000_00000.ppm").write_bytes(b"P6\n9")
    with pytest.raises(InputError, match=r"00000_00000.ppm is no image that can be read: .+\.$"):
        load_images(dataset("gtsrb", tmp_path))


@pytest.mark.parametrize("name", PUBLISHED)
def test_files_that_are_not_there_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as error:
        load_images(dataset(name, tmp_path))
    text = str(error.value)
    assert "dataset.download is false" in text
    assert f"and set dataset.download to true, which unpacks them: {tmp_path}/" in text
    assert ("cifar-100-python.tar.gz" in text) == (name in ("cifar100", "cifar10+100"))
    assert ("cifar-10-python.tar.gz" in text) == (name in ("cifar10", "cifar10+100"))
    assert text.endswith((".gz.", ".zip.", ".mat."))


def test_a_failed_download_says_what_goes_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(vision, "both_parts", vision.both_parts)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    settings = dataset("cifar10", tmp_path).model_copy(update={"download": True})
    with pytest.raises(InputError) as error:
        load_images(settings)
    assert str(error.value) == (
        "data set 'cifar10': files are missing or damaged, and the download failed (no route to host); put "
        "the published files here, remove leftovers of an earlier try, and run this again, which unpacks "
        f"them: {tmp_path}/cifar-10-python.tar.gz."
    )


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\0\0\x08\x01\0\0\0\x09ab"])
def test_a_file_that_was_half_unpacked_is_refused(tmp_path: Path, content: bytes) -> None:
    for part in ("train", "t10k"):
        write_idx(tmp_path / "MNIST" / "raw" / f"{part}-images-idx3-ubyte", images_like((3, 28, 28)))
        (tmp_path / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(InputError, match=r"remove leftovers of an earlier try, .*MNIST/raw/train-images"):
        load_images(dataset("mnist", tmp_path))


def test_the_published_files_of_mnist(tmp_path: Path) -> None:
    packed = SHARED / "data" / "MNIST" / "raw"
    if not packed.is_dir():
        pytest.skip(f"{packed} is not there")
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for path in packed.glob("*.gz"):
        shutil.copyfile(path, folder / path.name)
    data = load_images(dataset("mnist", tmp_path).model_copy(update={"download": True}))  # unpacks only
    assert data.images.shape == (70_000, 28, 28, 1)
    test = data.targets[data.parts == "test"]
    assert np.bincount(test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    with gzip.open(packed / "t10k-images-idx3-ubyte.gz") as file:
        assert file.read()[16:] == data.images[data.parts == "test"].tobytes()


def test_own_code_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_images.py").write_text(
        "import numpy as np\n"
        "from osr.data.images import ImageSet\n"
        "def load(settings):\n"
        "    return ImageSet(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 1]), (settings.root, 'b'))\n"
        "def wrong(settings):\n"
        "    return 3\n"
    )
    (tmp_path / "my_needs.py").write_text("import not_installed.deep\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_images(dataset("my_images:load")).class_names == ("data", "b")
    for name, sentence in [
        (
            "my_image:load",
            "dataset.name is 'my_image:load', but there is no module 'my_image'; put my_image.py ",
        ),
        (
            "my_needs:load",
            "dataset.name is 'my_needs:load', but there is no module 'not_installed'; my_needs imports it.",
        ),
        ("my_images:lod", "dataset.name is 'my_images:lod', but my_images has no function 'lod'."),
        (
            "my_images:wrong",
            "dataset.name: my_images:wrong must return an osr.data.images.ImageSet, not int.",
        ),
    ]:
        with pytest.raises(InputError) as error:
            load_images(dataset(name))
        assert str(error.value).startswith(sentence)


def test_own_code_may_leave_images_in_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_files.py").write_text(
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from osr.data.images import ImageFiles, ImageSet\n"
        "def load(settings, sub=''):\n"
        "    files = ImageFiles(Path(settings.root) / sub, np.array(['a.png', 'b.png', 'c.png']), 3)\n"
        "    return ImageSet(files, np.array([0, 1, 0]), ('x', 'y'))\n"
        "def elsewhere(settings):\n"
        "    return load(settings, 'deeper')\n"
    )
    for name, size in (("a", (3, 4)), ("b", (4, 3)), ("c", (3, 4))):
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
    monkeypatch.syspath_prepend(tmp_path)
    first, second, third = hashes_of(load_images(dataset("my_files:load", tmp_path))).tolist()
    assert first == third != second
    with pytest.raises(InputError, match=r"must return files in dataset.root, .*, not in .*/deeper\."):
        load_images(dataset("my_files:elsewhere", tmp_path))
