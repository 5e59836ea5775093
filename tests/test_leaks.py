"""No split of any specification leaks: groups, published parts, copies of images."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from osr.data.hashes import image_hashes
from osr.data.images import ImageSet
from osr.errors import InputError
from osr.splits.division import make_split, without_duplicates
from osr.splits.leaks import cut_group, repeated_images
from osr.splits.split import PARTS, Split


@dataclass(frozen=True)
class Spec:
    """A data set and what is asked of it; some cannot be met."""

    data: ImageSet
    hashes: np.ndarray
    known: list[int]
    background: list[int]
    unknown: list[int]
    val_fraction: float
    test_fraction: float
    seed: int

    def split(self) -> Split:
        return make_split(
            self.data.targets,
            self.data.class_names,
            known=self.known,
            background=self.background,
            unknown=self.unknown,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            seed=self.seed,
            parts=self.data.parts,
            groups=self.data.groups,
            hashes=self.hashes,
        )


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """Any images: copies of each other or not, groups within or across classes, published parts or not."""
    num_classes, num_images = draw(st.integers(2, 5)), draw(st.integers(8, 60))
    generator = np.random.default_rng(draw(st.integers(0, 999)))
    targets = generator.integers(num_classes, size=num_images)
    groups = None
    if draw(st.booleans()):
        groups = generator.integers(draw(st.integers(3, 40)), size=num_images)
        if draw(st.booleans()):  # within a class, as tracks are
            groups = groups * num_classes + targets
    published = draw(st.sampled_from([None, ("train", "test"), ("train", "val"), PARTS]))
    parts = None
    if published and groups is None:
        parts = generator.choice(published, size=num_images)
    elif published and groups is not None:
        parts = generator.choice(published, size=groups.max() + 1)[groups]
    values = generator.integers(draw(st.sampled_from([4, 40, 10_000])), size=num_images)
    order = draw(st.permutations(range(num_classes)))
    num_known = draw(st.integers(1, num_classes - 1))
    num_background = draw(st.integers(0, num_classes - num_known - 1))
    return Spec(
        ImageSet(
            np.zeros((num_images, 1, 1, 1), np.uint8), targets, tuple("abcde"[:num_classes]), parts, groups
        ),
        values.astype(np.uint64),
        order[:num_known],
        order[num_known : num_known + num_background],
        order[num_known + num_background :],
        draw(st.floats(0.01, 0.45)),
        draw(st.floats(0.01, 0.45)),
        draw(st.integers(0, 99)),
    )


def assert_whole(split: Split, spec: Spec) -> None:
    """Every rule at once, each written out anew."""
    of_row = {row: part for part in PARTS for row in split.rows(part).tolist()}
    assert len(of_row) == sum(len(split.rows(part)) for part in PARTS)
    for row, part in of_row.items():
        number = int(spec.data.targets[row])
        allowed = {
            "train": [*spec.known, *spec.background],
            "val": spec.known,
            "test": spec.known + spec.unknown,
        }
        assert number in allowed[part]
        if spec.data.parts is not None:
            published = spec.data.parts[row]
            assert (
                part == published
                or (published == "train" and number in spec.known)
                or "test" not in spec.data.parts
            )
            assert published != "test" or part == "test"
            assert part != "test" or published == "test" or "test" not in spec.data.parts
    if spec.data.groups is not None:
        parts_of_group: dict[int, set] = {}
        for row, part in of_row.items():
            parts_of_group.setdefault(int(spec.data.groups[row]), set()).add(part)
        assert all(len(parts) == 1 for parts in parts_of_group.values())


@settings(max_examples=300)
@given(specs())
def test_no_split_of_any_spec_leaks(spec: Spec) -> None:
    try:
        split = spec.split()
    except InputError as error:
        assert str(error).startswith("split: ")  # noqa: PT017
        return
    assert_whole(split, spec)
    of_row = {row: part for part in PARTS for row in split.rows(part).tolist()}
    copies: dict[int, list[int]] = {}
    for row in of_row:
        copies.setdefault(int(spec.hashes[row]), []).append(row)
    leaks = sorted(sorted(rows) for rows in copies.values() if len({of_row[row] for row in rows}) > 1)
    assert split.duplicates == leaks
    tested = {row: spec.data.targets[row] in spec.known for row, part in of_row.items() if part == "test"}
    both = [[row for row in rows if row in tested] for rows in copies.values()]
    both = sorted(sorted(rows) for rows in both if len({tested[row] for row in rows}) == 2)
    assert split.contradictions == both
    try:
        dropped = without_duplicates(split)
    except InputError as error:
        assert "once split.duplicates: drop has taken the copies out" in str(error)  # noqa: PT017
        return
    assert dropped.duplicates == []
    assert dropped.contradictions == []
    assert_whole(dropped, spec)
    as_unknown = {row for rows in both for row in rows if not tested[row]}
    assert set(split.test) - set(dropped.test) == as_unknown
    assert set(dropped.train) <= set(split.train)


@settings(max_examples=30)
@given(specs())
def test_files_give_the_same_split(tmp_path_factory: pytest.TempPathFactory, spec: Spec) -> None:
    try:
        split = spec.split()
    except InputError:
        return
    folder = tmp_path_factory.mktemp("split")
    split.save(folder)
    loaded = Split.load(folder)
    assert loaded.digest == split.digest
    assert loaded.duplicates == split.duplicates
    assert_array_equal(loaded.hashes, split.hashes)
    if split.groups is not None:
        assert_array_equal(loaded.groups, split.groups)
    summary = json.loads((folder / "split.json").read_text())["duplicates"]
    assert summary["images"] == len(split.duplicates) == len(summary["rows"])
    assert summary["copies"] == sum(len(rows) for rows in split.duplicates)


def tracks(**changes: object) -> Split:
    arguments = {
        "known": [0, 1],
        "unknown": [2],
        "val_fraction": 0.2,
        "test_fraction": 0.2,
        "seed": 0,
        "groups": np.arange(150) // 5,
    }
    return make_split(np.repeat([0, 1, 2], 50), "abc", **arguments | changes)


def test_shares_are_met_by_whole_groups() -> None:
    """Ten tracks of five images a class: two of them are 20 %."""
    split = tracks()
    assert split.counts() == {
        "a": {"train": 30, "val": 10, "test": 10},
        "b": {"train": 30, "val": 10, "test": 10},
        "c": {"train": 0, "val": 0, "test": 50},
    }


def test_every_class_of_three_groups_is_divided() -> None:
    split = tracks(groups=np.repeat(np.arange(9), [30, 15, 5, 2, 2, 46, 48, 1, 1]), val_fraction=0.4)
    assert all(min(split.counts()[name].values()) > 0 for name in "ab")
    with pytest.raises(
        InputError, match=r"known class 'a' has 50 images in 2 groups, too few to train, val and test"
    ):
        tracks(groups=np.repeat(np.arange(6), 25))


def test_a_group_across_classes_follows_its_unknown_images() -> None:
    groups = np.arange(150) // 5
    groups[100] = 0  # one image of the unknown class belongs to a track of class a
    split = tracks(groups=groups)
    assert set(range(5)) <= set(split.test.tolist())
    with pytest.raises(InputError, match=r"split: group 0 stands in train and in test; one part per group"):
        tracks(groups=groups, known=[1], background=[0])


def test_a_published_part_that_cuts_a_group_is_refused() -> None:
    parts = np.tile(["train", "train", "test"], 50)
    with pytest.raises(InputError, match=r"group 0 stands in the published train and test part"):
        tracks(parts=parts)


def test_published_parts_stay() -> None:
    parts = np.tile(["train"] * 4 + ["test"], 30)
    split = tracks(parts=parts, groups=None, val_fraction=0.1)
    assert split.counts() == {
        "a": {"train": 36, "val": 4, "test": 10},
        "b": {"train": 36, "val": 4, "test": 10},
        "c": {"train": 0, "val": 0, "test": 10},
    }
    assert set(parts[split.test]) == {"test"}
    with_val = np.tile(["train"] * 3 + ["val", "test"], 30)
    assert tracks(parts=with_val, groups=None).counts()["a"] == {"train": 30, "val": 10, "test": 10}
    split = tracks(parts=parts, groups=None, unknown=[], background=[2])
    assert split.counts()["c"] == {"train": 40, "val": 0, "test": 0}
    parts[100:] = "train"
    with pytest.raises(InputError, match=r"unknown class 'c' has no image in the published test part"):
        tracks(parts=parts, groups=None)


def test_split_refuses_a_cut_group_and_wrong_shapes() -> None:
    split = tracks()
    groups = split.groups.copy()
    row = split.train[0]
    groups[row] = groups[split.test[0]]
    with pytest.raises(InputError, match=r"stands in train and in test; one part per group\.$"):
        replace(split, groups=groups)
    with pytest.raises(
        InputError, match=r"split: hashes must have shape \(150,\), one per image, not \(3,\)"
    ):
        replace(split, hashes=np.zeros(3, np.uint64))


def test_copies_cannot_be_dropped_where_a_known_class_has_no_other_image() -> None:
    split = tracks(groups=None)
    train, test = (
        np.flatnonzero((split.targets == 0) & np.isin(np.arange(150), rows))
        for rows in (split.train, split.test)
    )
    hashes = np.arange(150, dtype=np.uint64)
    hashes[train] = hashes[test[0]]
    with pytest.raises(InputError) as error:
        without_duplicates(replace(split, hashes=hashes))
    assert str(error.value) == (
        "split: known class 'a' has no image in train, once split.duplicates: drop has taken the copies out."
    )


def test_groups_and_pixels_are_in_the_digest(tmp_path: Path) -> None:
    split = tracks(hashes=np.arange(150, dtype=np.uint64))
    other = split.hashes.copy()
    other[7] = 1 << 63
    assert len({split.digest, replace(split, hashes=other).digest, replace(split, groups=None).digest}) == 3
    split.save(tmp_path)
    path = tmp_path / "manifest.csv"
    path.write_text(path.read_text().replace("0000000000000007", "0000000000000008"))
    with pytest.raises(InputError, match="was changed by hand"):
        Split.load(tmp_path)


def test_identical_images_have_one_hash() -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 5, 4, 3), dtype=np.uint8)
    images[150] = images[3]
    hashes = image_hashes(images)
    assert hashes.dtype == np.uint64
    assert len(set(hashes.tolist())) == 199
    assert hashes[150] == hashes[3]
    assert_array_equal(image_hashes(images[:, ::-1][:, ::-1]), hashes)
    # blake2b with a digest of 8 bytes, of the bytes 0 1 2 3; another value is another digest of every split.
    assert f"{image_hashes(np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1))[0]:016x}" == "98c94eeea18b89fa"


def test_leaks_of_hand_made_parts() -> None:
    hashes = np.array([7, 8, 7, 8, 9, 9, 7], np.uint64)
    assert repeated_images(hashes, np.array([0, 0, 2, 0, 1, -1, 1])) == [[0, 2, 6]]
    assert repeated_images(hashes, np.full(7, -1)) == []
    assert cut_group(np.array([1, 1, 2, 2]), np.array([0, 0, 1, -1])) is None
    assert cut_group(np.array([1, 2, 2, 1]), np.array([0, 1, 2, 0])) == (2, 1, 2)


def test_one_image_with_two_labels_is_reported_wherever_it_stands(tmp_path: Path) -> None:
    split = tracks(groups=None)
    first, second = (split.train[split.targets[split.train] == number][0] for number in (0, 1))
    hashes = np.arange(150, dtype=np.uint64)
    hashes[second] = hashes[first]
    found = replace(split, hashes=hashes)
    assert found.label_conflicts == [[first, second]]
    assert found.duplicates == found.contradictions == []
    found.save(tmp_path)
    assert Split.load(tmp_path).label_conflicts == [[first, second]]
    hashes[second], hashes[101] = second, hashes[100]  # two images of one unknown class are no contradiction
    assert replace(split, hashes=hashes).label_conflicts == []
