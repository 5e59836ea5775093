"""Folders and CSVs of images and published sets of files: what is listed, refused and packed."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from datasets import SHIPPED
from image_folders import animals, picture, section
from PIL import Image

from osr.data.datasets import load_images
from osr.data.hashes import image_hashes
from osr.data.images import ImageFiles
from osr.errors import InputError


def test_class_folders(tmp_path: Path) -> None:
    animals(tmp_path, count=2)
    inner = picture(tmp_path / "images/cat/deeper/one.png")
    (tmp_path / "images/cat/notes.txt").write_text("no image")
    picture(tmp_path / "images/.hidden/x.png")
    data = load_images(section(tmp_path))
    assert data.class_names == ("cat", "ruddy duck", "Ÿak")
    assert data.targets.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert data.parts is None
    assert data.images.shape == (7, 8, 8, 3)
    assert (data.images[0] == inner).all()
    assert (data.hashes == image_hashes(data.images)).all()
    assert data.odd == ()


def test_published_parts_stand_above(tmp_path: Path) -> None:
    animals(tmp_path, parts=("train", "test"), count=2)
    data = load_images(section(tmp_path))
    assert data.class_names == ("cat", "ruddy duck", "Ÿak")
    assert data.parts.tolist() == ["test"] * 6 + ["train"] * 6


def test_links(tmp_path: Path) -> None:
    animals(tmp_path, count=2)
    cat = tmp_path / "images/cat"
    (cat / "again.png").symlink_to(cat / "no 0 é.png")
    assert len(load_images(section(tmp_path)).targets) == 7
    for target, sentence in [
        (tmp_path / "images", "is a link to a folder, which may be a loop"),
        (cat / "bad.png", "is a link that leads nowhere or in a circle"),
        (cat / "none.png", "is a link that leads nowhere or in a circle"),
    ]:
        (cat / "bad.png").symlink_to(target)
        with pytest.raises(InputError, match=sentence):
            load_images(section(tmp_path))
        (cat / "bad.png").unlink()
    picture(tmp_path / "outside.png")
    (cat / "bad.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(InputError, match=r"bad.png is a link out of .*images; put the file itself there"):
        load_images(section(tmp_path))


def test_a_folder_of_a_class_or_part_may_not_be_a_link(tmp_path: Path) -> None:
    for name in ("images", "elsewhere"):
        animals(tmp_path / name, count=1)
    (tmp_path / "images/train").symlink_to(tmp_path / "elsewhere/images")
    with pytest.raises(InputError, match="train is a link to a folder"):
        load_images(section(tmp_path))
    (tmp_path / "images/train").rename(tmp_path / "images/images/loop")
    with pytest.raises(InputError, match="loop is a link to a folder"):
        load_images(section(tmp_path, folder="images/images"))
    (tmp_path / "images/images/loop").unlink()
    (tmp_path / "images/images/loop").symlink_to("loop")
    with pytest.raises(InputError, match="loop is a link that leads nowhere or in a circle"):
        load_images(section(tmp_path, folder="images/images"))


@pytest.mark.parametrize("folder", ["../images", "/images"])
def test_the_folder_lies_in_the_root(tmp_path: Path, folder: str) -> None:
    with pytest.raises(InputError, match=r"dataset.folder: .*images must lie in dataset.root, .*data\."):
        load_images(section(tmp_path / "data", folder=folder))


def test_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    animals(tmp_path, count=1)
    for name in (".DS_Store", "Thumbs.db", "._no 0.png", ".ipynb_checkpoints/copy.png"):
        (tmp_path / "images/cat" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "images/cat" / name).write_bytes(b"no image")
    os.mkfifo(tmp_path / "images/cat/pipe.png")  # to open it would wait for ever
    assert len(load_images(section(tmp_path)).targets) == 3


def test_parts_and_classes_are_not_mixed(tmp_path: Path) -> None:
    animals(tmp_path, parts=("train", "valid"), count=1)
    with pytest.raises(InputError, match=r"images holds valid, train; it may hold train, val and test alone"):
        load_images(section(tmp_path))
    (tmp_path / "images/valid").rename(tmp_path / "images/bus")
    assert load_images(section(tmp_path)).class_names == ("bus", "train")


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    animals(tmp_path, parts=("train", "test"), count=1)
    (tmp_path / "images/test/cat/no 0 é.png").unlink()
    assert len(load_images(section(tmp_path)).targets) == 5
    (tmp_path / "images/train/dog").mkdir()
    with pytest.raises(InputError, match=r"images/train/dog holds none, whose names end in one of \.png,"):
        load_images(section(tmp_path))


def test_classes_that_are_numbers_have_their_order(tmp_path: Path) -> None:
    for label in ("10", "9", "0"):
        picture(tmp_path / "images" / label / "x.png")
    data = load_images(section(tmp_path))
    assert data.class_names == ("0", "9", "10")
    names = [data.class_names[number] for number in data.targets]
    assert names == ["0", "10", "9"]  # in the order of the folders


@pytest.mark.parametrize(("content", "sentence"), [
    ({}, "is no folder"),
    ({"images/a.txt": b"x"}, "has no class sub-folder with images"),
])  # fmt: skip
def test_folders_without_images(tmp_path: Path, content: dict, sentence: str) -> None:
    for name, data in content.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=sentence):
        load_images(section(tmp_path))


def write_csv(root: Path, lines: list[list[str]], header: str = "path,label,part,group") -> None:
    with (root / "images.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *lines])


def test_a_csv(tmp_path: Path) -> None:
    for name in ("a b.png", "ü.png", "c.png"):
        picture(tmp_path / name, mode="L")
    write_csv(
        tmp_path,
        [["a b.png", "x", "train", "p1"], ["ü.png", "y", "test", "p2"], ["c.png", "x", "train", "p1"]],
    )
    data = load_images(section(tmp_path, "csv"))
    assert data.class_names == ("x", "y")
    assert data.targets.tolist() == [0, 1, 0]
    assert data.parts.tolist() == ["train", "test", "train"]
    assert data.groups.tolist() == [0, 1, 0]
    assert data.images.shape == (3, 8, 8, 1)
    names = SHIPPED["csv"] | {"part": "none", "group": "none", "label": "group"}
    other = load_images(section(tmp_path, "csv", csv=names))
    assert other.class_names == ("p1", "p2")
    assert other.parts is None
    table = (tmp_path / "images.csv").read_text().replace("part", "split").replace("\n", "\r\n")
    (tmp_path / "images.csv").write_bytes(table.encode("utf-8-sig"))
    again = load_images(section(tmp_path, "csv"))
    assert again.class_names == data.class_names
    assert again.parts.tolist() == data.parts.tolist()


@pytest.mark.parametrize(("lines", "header", "sentence"), [
    ([["../x.png", "a"]], "path,label", r"images.csv, line 2: '../x.png' lies outside of dataset.root"),
    ([["/etc/passwd", "a"]], "path,label", r"line 2: '/etc/passwd' lies outside of dataset.root"),
    ([["a.png", "a"], ["a.png", ""]], "path,label", r"line 3: the column 'label' is empty"),
    ([["a.png"]], "path", r"dataset.csv.label: .*images.csv has no column 'label'; it has: 'path'\."),
    ([["a.png", "a"]], "path, label", r"has no column 'label'; it has: 'path', ' label'\."),
    ([["a.png", "a", "b"]], "path,label,label", r"dataset.csv.label: .*images.csv has two columns 'label'"),
    ([["a.png", "a"], [], ["b.png", " a"]], "path,label", r"line 4: the column 'label' is ' a', which beg"),
    ([["a.png", "NaN"]], "path,label", r"line 2: the column 'label' is 'NaN', which is no value\."),
    ([["a\0.png", "a"]], "path,label", r"line 2: the column 'path' holds a zero byte\."),
    ([["a.png", "a", "dev"]], "path,label,split", r"the column 'split' is 'dev', but must be train, val or"),
    ([], "path,label", r"names no image"),
    ([["gone.png", "a"]], "path,label", r"none of the 1 images can be read, the first: .*gone.png"),
])  # fmt: skip
def test_wrong_csvs(tmp_path: Path, lines: list, header: str, sentence: str) -> None:
    write_csv(tmp_path, lines, header)
    with pytest.raises(InputError, match=sentence):
        load_images(section(tmp_path, "csv"))


def test_packing(tmp_path: Path) -> None:
    animals(tmp_path, count=2)
    assert isinstance(load_images(section(tmp_path, pack_size="none")).images, ImageFiles)
    picture(tmp_path / "images/cat/other.png", (8, 9))
    assert isinstance(load_images(section(tmp_path)).images, ImageFiles)
    packed = load_images(section(tmp_path, pack_size=5)).images
    assert packed.shape == (7, 5, 5, 3)
    whole = Image.open(tmp_path / "images/cat/no 0 é.png").resize((5, 5), Image.Resampling.BILINEAR)
    assert (packed[0] == np.asarray(whole)).all()


def tiny_imagenet(root: Path) -> None:
    top = root / "tiny-imagenet-200"
    for wnid in ("n02", "n01", "n03"):
        for number in range(2):
            picture(top / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", (64, 64))
    picture(top / "val/images/val_0.JPEG", (64, 64))
    (top / "val/val_annotations.txt").write_text("val_0.JPEG\tn03\t0\t0\t62\t62\n")
    (top / "words.txt").write_text("n01\tcrane\nn02\ttabby, tabby cat\nn03\tcrane\n")


def test_tiny_imagenet(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"'tinyimagenet': files are missing, .*tiny-imagenet-200.zip so that"
    ):
        load_images(section(tmp_path, "tinyimagenet"))
    tiny_imagenet(tmp_path)
    data = load_images(section(tmp_path, "tinyimagenet"))
    assert data.class_names == ("crane (n01)", "tabby (n02)", "crane (n03)")
    assert data.targets.tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert data.parts.tolist() == ["train"] * 6 + ["test"]
    assert data.images.shape == (7, 64, 64, 3)


def test_textures(tmp_path: Path) -> None:
    images, labels = tmp_path / "dtd/dtd/images", tmp_path / "dtd/dtd/labels"
    labels.mkdir(parents=True)
    for number, (label, part) in enumerate([("dotted", "train"), ("woven", "val"), ("woven", "test")]):
        picture(images / label / f"{number}.jpg", (70 + number, 80))
        (labels / f"{part}1.txt").write_text(f"{label}/{number}.jpg\n")
    data = load_images(section(tmp_path, "textures", download=False))
    assert data.class_names == ("dotted", "woven")
    assert data.targets.tolist() == [0, 1, 1]
    assert data.parts.tolist() == ["train", "val", "test"]
    assert isinstance(data.images, ImageFiles)
    assert data.images[2].shape == (80, 72, 3)
