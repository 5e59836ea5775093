"""Folders and tables with what people have in them: every file is read right, or named with the reason."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import SHARED, SHIPPED
from image_folders import section
from pages import check_section
from PIL import Image

from osr.data.datasets import load_images
from osr.data.image_files import read_image
from osr.data.images import ImageSet
from osr.errors import InputError

CASES = SHARED / "cases"
HEADING = "Odd files and tables"
READ = {
    "absolute", "blank_lines", "bom", "cr", "crlf", "emoji", "formula", "html", "index_col", "plain",
    "quoted", "slash_label", "zeros",
}  # fmt: skip
# Oddities of labels, not of files: what is said of them stands in README and in the report.
LABELS = {
    "case", "dotslash", "dup_other", "dup_same", "floats", "label_unknown", "mixed_zeros", "negative", "nfd",
    "null", "unknown_label",
}  # fmt: skip

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="needs shared/cases")


def make(case: str, folder: Path, *kinds: str) -> None:
    subprocess.run([sys.executable, CASES / case, folder, *kinds], check=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    make("odd_images.py", root / "images", "heic", "avif", "macosx")
    for name in ("jpeg_odd_exif.bin", "avif_damaged.bin"):
        for suffix in (".jpg", ".png"):
            (root / "images/cat" / f"{name.partition('.')[0]}{suffix}").write_bytes(
                (CASES / name).read_bytes()
            )
    os.mkfifo(root / "images/cat/pipe.png")
    return root


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    make("csv_files.py", root)
    os.mkfifo(root / "pipe.png")
    for name, line in (("pipe.csv", "pipe.png,class 0\n"), ("device.csv", "null.png,class 0\n")):
        (root / name).write_text((root / "plain.csv").read_text() + line)
    (root / "null.png").symlink_to("/dev/null")
    return root


def read_photos(root: Path) -> ImageSet:
    return load_images(section(root, "folder", on_bad_image="skip"))


def said_of_photos(data: ImageSet, root: Path) -> dict[str, str]:
    said = {image.name.rpartition("/")[2]: image.problem.replace(f"{root}/images/", "") for image in data.odd}
    return said | {f"{count} {ending}": "passed over" for ending, count in data.passed_over}


def said_of_tables(root: Path) -> dict[str, str]:
    said = {}
    for path in sorted(path for path in root.iterdir() if path.suffix in (".csv", ".tsv", ".txt")):
        names = SHIPPED["csv"] | {"file": path.name}
        try:
            data = load_images(section(root, "csv", csv=names))
            said[path.name] = f"read: {len(data.targets)} images of {len(data.class_names)} classes"
        except InputError as error:
            said[path.name] = str(error).replace(f"{root}/", "").replace(str(root), "data")
    return said


def test_every_photo_is_read_right_or_named(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        data = read_photos(photos)
    bad = {image.name.rpartition("/")[2] for image in data.odd if image.is_bad}
    assert bad == {
        "float.tif", "jpeg_odd_exif.jpg", "jpeg_odd_exif.png", "avif_damaged.jpg", "avif_damaged.png",
    }  # fmt: skip
    assert data.class_names == ("Dog", "bird house", "cat", "zebra", "éclair")
    assert dict(data.passed_over) == {
        ".db": 1, ".heic": 1, ".ini": 1, ".txt": 1, "hidden": 5, "pipes and devices": 1
    }  # fmt: skip
    assert (
        "5 hidden, 1 .db, 1 .heic, 1 .ini, 1 .txt, 1 pipes and devices; HEIC needs a decoder" in caplog.text
    )
    assert "2 images converted: 16-bit grey, 0..65535 read as 0..255" in caplog.text
    assert "grey images of several depths (10-bit grey, 12-bit grey, 16-bit grey)" in caplog.text


def test_the_pixels_of_odd_photos(photos: Path) -> None:
    cat = photos / "images/cat"
    for name in ("exif3.JPG", "exif6.JPG", "exif8.JPG"):
        upright, stored = read_image(cat / name, channels=3), np.asarray(Image.open(cat / name))
        turns = {"3": 2, "6": 3, "8": 1}[name[4]]
        assert (upright == np.rot90(stored, turns)).all()
    coloured = ["UPPER.PNG", "really_png.jpg", "jfif.jfif", "rgba.png", "cmyk.jpg", "pal.png", "lab.tif"]
    coloured += ["ycc.jpg", "anim.gif", "two_pages.tif", "w.webp", "x.avif"]
    for name in coloured:  # the upper half is red, the lower one dark
        pixels = read_image(cat / name, channels=3)[2:].astype(int)
        assert pixels.shape == (22, 24, 3), name
        assert pixels[:9, :, 0].mean() > 170, name
        assert pixels[:9, :, 1:].mean() < 60, name
        assert pixels[11:].mean() < 60, name
        grey = read_image(cat / name, channels=1)[2:, :, 0].astype(int)
        assert grey[:9].mean() > grey[11:].mean() + 20, name
    for name in ("g16.png", "g16.tif", "g12bit.tif", "i32.tif"):
        pixels = read_image(cat / name, channels=1)
        assert pixels.max() > 120, name
        assert (np.diff(pixels.ravel().astype(int)) >= 0).all(), name
    assert read_image(cat / "la.png", channels=1).shape == (24, 24, 1)
    assert set(np.unique(read_image(cat / "bw.png", channels=1))) == {0, 255}


def test_every_table_is_read_or_refused_with_the_reason(tables: Path) -> None:
    said = said_of_tables(tables)
    assert {said[f"{name}.csv"] for name in READ} == {"read: 64 images of 4 classes"}
    for name, sentence in {
        "pipe.csv": "pipe.png is a pipe, a socket or a device, not an image.",
        "device.csv": "device.csv, line 66: 'null.png' lies outside of dataset.root, data.",
        "directory.csv": "data is a folder, not an image.",
        "url.csv": "url.csv, line 66: the column 'path' is 'https://x.org/a.png', an address",
        "missing_file.csv": "nowhere.png does not exist.",
        "backslash.csv": "folders are parted by /, and its name holds \\",
        "semicolon.csv": "has no column 'path'; it has: 'path;label'.",
        "utf16.csv": "must be a CSV in UTF-8",
    }.items():
        assert sentence in said[name]


def test_what_is_said_stands_in_the_docs(photos: Path, tables: Path) -> None:
    files, lists = said_of_photos(read_photos(photos), photos), said_of_tables(tables)
    for name in LABELS:
        del lists[f"{name}.csv"]
    whole = ", ".join(sorted(READ))
    lines = [
        f"| {what} | {_cell(said)} |"
        for what, said in [*files.items(), *lists.items()]
        if "read: 64" not in said
    ]
    check_section(
        "reliability.md",
        HEADING,
        f"""`pytest -n 0 tests/test_odd_files.py` makes {len(files)} kinds of odd files in class folders and
{len(lists)} tables. Not named here is what was read as it is: photos turned upright by their EXIF, a PNG
under the name of a JPEG, WebP, AVIF, CIELAB, black and white, and {len(READ)} tables: {whole}. Seeded,
`tests/test_image_reader.py` and `tests/test_arrays.py` change bytes of PNG, JPEG, TIFF, WebP, AVIF, GIF, BMP,
PPM (60 files each) and .npz (600): an image, or one sentence with the path. With `dataset.on_bad_image: skip`
a data set goes on without such files; `osr predict` always does.

| file | what is said |
|---|---|
"""
        + "\n".join(lines),
    )


def _cell(said: str) -> str:
    return re.sub(r"\s+", " ", said).replace("|", "\\|").replace("<", "&lt;")
