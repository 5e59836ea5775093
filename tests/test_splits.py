"""Splits: nothing leaks, the same seed gives the same split, and files are checked when they are read."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from osr.errors import InputError
from osr.outputs import BACKGROUND, UNKNOWN
from osr.splits.division import make_split, thinned
from osr.splits.split import PARTS, Split


@dataclass(frozen=True)
class Case:
    """Arguments of `make_split` that it accepts."""

    targets: np.ndarray
    names: tuple[str, ...]
    known: list[int]
    background: list[int]
    unknown: list[int]
    val_fraction: float
    test_fraction: float
    seed: int

    def split(self, **changes: object) -> Split:
        arguments = {
            "known": self.known,
            "unknown": self.unknown,
            "background": self.background,
            "val_fraction": self.val_fraction,
            "test_fraction": self.test_fraction,
            "seed": self.seed,
        }
        return make_split(self.targets, self.names, **arguments | changes)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Classes of 6 to 20 images each, in any order; each known, background, unknown or in no group."""
    num_classes = draw(st.integers(2, 7))
    sizes = draw(st.lists(st.integers(6, 20), min_size=num_classes, max_size=num_classes))
    targets = np.repeat(np.arange(num_classes), sizes)
    np.random.default_rng(draw(st.integers(0, 99))).shuffle(targets)
    order = draw(st.permutations(range(num_classes)))
    num_known = draw(st.integers(1, num_classes))
    groups: dict[str, list[int]] = {"known": list(order[:num_known]), "background": [], "unknown": [], "": []}
    for number in order[num_known:]:
        groups[draw(st.sampled_from(sorted(groups.keys() - {"known"})))].append(number)
    return Case(
        targets.astype(np.int64),
        tuple(f"class {number}" for number in range(num_classes)),
        groups["known"],
        groups["background"],
        groups["unknown"],
        draw(st.floats(0.01, 0.4)),
        draw(st.floats(0.01, 0.4)),
        draw(st.integers(0, 2**32 - 1)),
    )


def small(**changes: object) -> Split:
    """Two known, one background and one unknown class of three, two and two images."""
    arguments = {
        "targets": np.array([0, 1, 0, 1, 0, 1, 2, 2, 3, 3]),
        "class_names": ("cat", "dog", "tree", "car"),
        "known": (1, 0),
        "background": (2,),
        "unknown": (3,),
        "train": np.array([0, 1, 6, 7]),
        "val": np.array([2, 3]),
        "test": np.array([4, 5, 8, 9]),
    }
    return Split(**arguments | changes)


@given(cases())
def test_no_split_leaks(case: Case) -> None:
    split = case.split()
    rows = np.concatenate([split.rows(part) for part in PARTS])
    assert len(np.unique(rows)) == len(rows)
    classes = {part: set(case.targets[split.rows(part)].tolist()) for part in PARTS}
    assert classes["train"] == {*case.known, *case.background}
    assert classes["val"] == set(case.known)
    assert classes["test"] == {*case.known, *case.unknown}
    grouped = np.isin(case.targets, [*case.known, *case.background, *case.unknown])
    assert sorted(rows) == np.flatnonzero(grouped).tolist()
    for part in PARTS:
        assert_array_equal(split.rows(part), np.sort(split.rows(part)))


@given(cases())
def test_labels_are_positions_in_the_list_of_known_classes(case: Case) -> None:
    split = case.split()
    expected = [
        case.known.index(number)
        if number in case.known
        else (BACKGROUND if number in case.background else UNKNOWN)
        for number in case.targets.tolist()
    ]
    assert split.labels.tolist() == expected
    assert split.labels.dtype == np.int64
    assert (split.labels[split.val] >= 0).all()
    assert UNKNOWN not in split.labels[split.train]
    assert BACKGROUND not in split.labels[split.test]
    assert split.known_names == tuple(f"class {number}" for number in case.known)


@given(cases())
def test_shares_are_rounded_and_at_least_one(case: Case) -> None:
    split = case.split()
    for number in case.known:
        size = int((case.targets == number).sum())
        val, test = (max(1, round(share * size)) for share in (case.val_fraction, case.test_fraction))
        counts = split.counts()[f"class {number}"]
        assert counts == {"train": size - val - test, "val": val, "test": test}
    assert list(split.counts()) == [f"class {n}" for n in case.known + case.background + case.unknown]


@given(cases(), st.integers(1, 9))
def test_a_thinned_split_keeps_some_images_of_each_class_in_each_part(case: Case, most: int) -> None:
    split = case.split()
    few, again = (thinned(split, most, seed=3) for _ in range(2))
    assert few.digest == again.digest
    for part in PARTS:
        assert set(few.rows(part)) <= set(split.rows(part))
        assert_array_equal(few.rows(part), np.sort(few.rows(part)))
    for name, counts in split.counts().items():
        assert few.counts()[name] == {part: min(count, most) for part, count in counts.items()}


@given(cases())
def test_the_seed_decides(case: Case) -> None:
    split, same = case.split(), case.split()
    for part in PARTS:
        assert_array_equal(split.rows(part), same.rows(part))
    assert split.digest == same.digest


def test_another_seed_is_another_split() -> None:
    targets = np.repeat(np.arange(3), 20)
    fractions = {"val_fraction": 0.2, "test_fraction": 0.2}
    digests = {
        make_split(targets, "abc", known=[0, 1], unknown=[2], **fractions, seed=seed).digest
        for seed in range(20)
    }
    assert len(digests) == 20


@given(cases(), st.data())
def test_the_division_of_a_class_does_not_depend_on_the_others_groups(
    case: Case, data: st.DataObject
) -> None:
    kept = data.draw(st.sampled_from(case.known))
    others = [number for number in range(len(case.names)) if number != kept]
    groups = {number: data.draw(st.sampled_from(["known", "unknown", "background", ""])) for number in others}
    listed = {
        group: [n for n in others if groups[n] == group] for group in ("known", "unknown", "background")
    }
    split, other = case.split(), case.split(**listed | {"known": [*listed["known"], kept]})
    for part in PARTS:
        mine, theirs = (rows[case.targets[rows] == kept] for rows in (split.rows(part), other.rows(part)))
        assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"known": (1, 4)}, ".known: class id 4 must lie in 0..3."),
        ({"unknown": (-1,)}, ".unknown: class id -1 must lie in 0..3."),
        ({"unknown": (3, 0)}, "class 'cat' stands in known and in unknown; one place per class."),
        ({"background": (3,)}, "class 'car' stands in background and in unknown; one place per class."),
        ({"known": (1, 0, 1)}, "class 'dog' stands twice in known; one place per class."),
        ({"val": np.array([0, 3])}, "image 0 stands twice in train, val and test; once per image."),
        ({"val": np.array([2, 2, 3])}, "image 2 stands twice in train, val and test; once per image."),
        ({"val": np.array([2, 3, 10])}, "rows must lie in 0..9."),
        ({"val": np.array([-8, 3])}, "rows must lie in 0..9."),
        ({"val": np.array([3, 2])}, "the rows of val must be sorted."),
        ({"targets": np.array([0, 1, 0, 1, 0, 1, 2, 2, 3, 4])}, "class ids of images must lie in 0..3."),
        (
            {"train": np.array([0, 1, 8]), "test": np.array([4, 5, 9])},
            "class 'car' must not appear in train.",
        ),
        ({"val": np.array([2, 3, 8]), "test": np.array([4, 5, 9])}, "class 'car' must not appear in val."),
        ({"test": np.array([4, 5, 7]), "train": np.array([0, 1])}, "class 'tree' must not appear in test."),
        ({"val": np.array([2])}, "known class 'dog' has no image in val."),
        ({"train": np.array([1, 6])}, "known class 'cat' has no image in train."),
        ({"test": np.array([5, 8])}, "known class 'cat' has no image in test."),
    ],
)
def test_leaks_are_refused(changes: dict, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        small(**changes)
    assert str(error.value).removeprefix("split").removeprefix(": ") == sentence


@pytest.mark.parametrize("group", ["known", "unknown", "background"])
def test_a_class_without_images_is_refused(group: str) -> None:
    groups = {"known": [0], "unknown": [1], "background": []}
    groups[group] = [*groups[group], 2]
    with pytest.raises(InputError, match=r"^split: class 'c' has no image in the data set\.$"):
        make_split(np.repeat([0, 1], 9), "abc", **groups, val_fraction=0.2, test_fraction=0.2, seed=0)


@pytest.mark.parametrize(("size", "fractions"), [(2, (0.1, 0.1)), (10, (0.5, 0.5))])
def test_a_class_with_too_few_images_is_refused(size: int, fractions: tuple[float, float]) -> None:
    val, test = fractions
    with pytest.raises(
        InputError, match=rf"known class 'a' has {size} images, too few to train, val and test"
    ):
        make_split(
            np.zeros(size, int), "a", known=[0], unknown=[], val_fraction=val, test_fraction=test, seed=0
        )


def test_make_split_refuses_overlap_and_ids_out_of_range() -> None:
    arguments = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0}
    with pytest.raises(InputError, match="'b' stands in known and in unknown"):
        make_split(np.repeat([0, 1], 9), "ab", known=[0, 1], unknown=[1], **arguments)
    with pytest.raises(InputError, match=r"split.unknown: class id 2 must lie in 0..1"):
        make_split(np.repeat([0, 1], 9), "ab", known=[0, 1], unknown=[2], **arguments)


@pytest.mark.parametrize("grouped", [False, True])
def test_background_images_held_out_are_in_val_and_never_in_train(grouped):
    targets = np.repeat(np.arange(4), 40)
    groups = np.arange(160) // 5 if grouped else None  # eight groups a class
    arguments = {
        "known": [0, 2],
        "unknown": [3],
        "background": [1],
        "val_fraction": 0.25,
        "test_fraction": 0.25,
        "seed": 0,
        "groups": groups,
    }
    plain = make_split(targets, "abcd", **arguments)
    split = make_split(targets, "abcd", **arguments, background_val_fraction=0.25)
    held_out = split.val[split.labels[split.val] == BACKGROUND]
    assert len(held_out) == 10
    assert not np.isin(held_out, split.train).any()
    assert np.array_equal(np.union1d(held_out, split.train), plain.train)
    assert np.array_equal(split.known_rows("val"), plain.val)
    assert np.array_equal(split.test, plain.test)
