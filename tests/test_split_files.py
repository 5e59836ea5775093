"""A split's files: written, read, tampered with, and their digests."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_array_equal
from test_splits import Case, cases, small

from osr.errors import InputError
from osr.splits.division import make_split
from osr.splits.split import PARTS, Split


@settings(max_examples=20)
@given(cases())
def test_files_give_the_same_split(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    folder, split = tmp_path_factory.mktemp("split"), case.split()
    split.save(folder)
    loaded = Split.load(folder)
    assert loaded.digest == split.digest
    assert (loaded.known, loaded.background, loaded.unknown) == (split.known, split.background, split.unknown)
    assert loaded.class_names == split.class_names
    for name in ("targets", "labels", *PARTS):
        assert_array_equal(getattr(loaded, name), getattr(split, name))
        assert getattr(loaded, name).dtype == np.int64


def test_the_manifest_lists_every_image(tmp_path: Path) -> None:
    make_split(
        np.array([0, 0, 0, 1, 2]), "abc", known=[0], unknown=[2], val_fraction=0.3, test_fraction=0.3, seed=0
    ).save(tmp_path)
    with (tmp_path / "manifest.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == ["0", "1", "2", "3", "4"]
    assert [line["class_id"] for line in lines] == ["0", "0", "0", "1", "2"]
    assert [line["label"] for line in lines] == ["0", "0", "0", "-1", "-1"]
    assert sorted(line["part"] for line in lines[:3]) == ["test", "train", "val"]
    assert [line["part"] for line in lines[3:]] == ["unused", "test"]


@pytest.mark.parametrize(
    "changes",
    [
        {"known": (0, 1)},
        {"background": (), "train": np.array([0, 1])},
        {
            "background": (),
            "unknown": (2, 3),
            "train": np.array([0, 1]),
            "test": np.array([4, 5, 6, 7, 8, 9]),
        },
        {"class_names": ("cat", "dog", "tree", "bus")},
        {"train": np.array([1, 4, 6, 7]), "test": np.array([0, 5, 8, 9])},
        {"train": np.array([0, 1, 6])},
        {"val": np.array([3, 4]), "test": np.array([2, 5, 8, 9])},
        {"test": np.array([4, 5, 8])},
        {"targets": np.array([0, 1, 0, 1, 0, 1, 2, 2, 3, 3, 3])},
    ],
)
def test_whatever_changes_changes_the_digest(changes: dict) -> None:
    assert small(**changes).digest != small().digest
    assert len(small().digest) == 16


def swap(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("manifest.csv", swap("8,3,-1,test", "8,3,-1,unused")),
        ("manifest.csv", swap("8,3,-1,test", "8,3,-1,tset")),
        ("manifest.csv", swap("8,3,-1,test", "8,3,-1,train")),
        ("manifest.csv", swap("8,3,-1,test", "8,9,-1,test")),
        ("manifest.csv", swap("8,3,-1,test", "8,x,-1,test")),
        ("manifest.csv", swap("8,3,-1,test", "8,3,0,test")),
        ("manifest.csv", swap("8,3,-1,test", "9,3,-1,test")),
        ("manifest.csv", swap("8,3,-1,test\n", "")),
        ("manifest.csv", lambda text: text[: len(text) // 2]),
        ("manifest.csv", swap("class_id", "class")),
        ("manifest.csv", lambda _: ""),
        ("split.json", swap('"dog"', '"wolf"')),
        ("split.json", swap('"val": 1', '"val": 2')),
        ("split.json", lambda text: json.dumps(json.loads(text) | {"known": [0, 1]})),
        ("split.json", lambda text: json.dumps(json.loads(text) | {"known": [1], "unknown": [3, 0]})),
        ("split.json", lambda text: json.dumps(json.loads(text) | {"digest": "0" * 16})),
        ("split.json", lambda text: json.dumps({"digest": json.loads(text)["digest"]})),
        ("split.json", lambda text: text[:-9]),
        ("split.json", lambda _: "[]"),
        ("split.json", lambda _: "[" * 100_000),
    ],
)  # fmt: skip
def test_an_edit_by_hand_is_refused(tmp_path: Path, name: str, edit: Callable[[str], str]) -> None:
    small().save(tmp_path)
    Split.load(tmp_path)
    before = (tmp_path / name).read_text()
    (tmp_path / name).write_text(edit(before))
    assert (tmp_path / name).read_text() != before
    with pytest.raises(InputError, match=rf"^{tmp_path} was changed by hand, or is not whole: .* \(.+\)\.$"):
        Split.load(tmp_path)


@pytest.mark.parametrize("name", ["split.json", "manifest.csv"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    small().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=rf"{name} is missing: `osr run prepare-split`"):
        Split.load(tmp_path)


def test_a_split_is_what_it_was(tmp_path: Path) -> None:
    targets = np.repeat(np.arange(3), 9)
    before = targets.copy()
    split = make_split(targets, "abc", known=[2, 0], unknown=[1], val_fraction=0.2, test_fraction=0.2, seed=0)
    assert_array_equal(targets, before)
    assert replace(split).digest == split.digest
    # Another value here means that every split of every recorded experiment has changed.
    assert split.digest == "c7d39be01e6b59a0"
    split.save(tmp_path)
    assert json.loads((tmp_path / "split.json").read_text())["digest"] == split.digest


def test_the_test_digest_looks_at_test_images_alone():
    targets = np.arange(300) % 3
    split = make_split(targets, "abc", known=[0, 1], unknown=[2], val_fraction=0.2, test_fraction=0.2, seed=0)
    fewer = replace(split, train=split.train[:-2])
    assert fewer.digest != split.digest
    assert fewer.test_digest == split.test_digest
    assert replace(split, test=split.test[:-2]).test_digest != split.test_digest
    assert replace(split, known=(1, 0)).test_digest != split.test_digest
