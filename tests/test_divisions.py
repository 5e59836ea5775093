"""Which image stands in which part, drawn anew one class at a time; and what names a split for good."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from test_protocols import ANIMALS, section

from osr.errors import InputError
from osr.splits.classes import Classes, choose_classes, protocol_classes, resolve_classes
from osr.splits.division import make_split, thinned, without_duplicates
from osr.splits.manifest import read_manifest, write_manifest
from osr.splits.split import PARTS, Split

TARGETS = np.random.default_rng(0).permutation(np.arange(5).repeat(40))
NAMES = ("ant", "bee", "cow", "dog", "elk")
ROLES = {"known": [3, 1], "background": [0], "unknown": [4]}  # class 2 is in no part
SHARES = {"val_fraction": 0.2, "test_fraction": 0.3, "seed": 7}


def split_of(**changes: object) -> Split:
    return make_split(TARGETS, NAMES, **ROLES | SHARES | changes)


def shuffled(seed: int = 7) -> list[np.ndarray]:
    """The images of each class as every division draws them: one class after the other."""
    generator = np.random.default_rng(seed)
    return [generator.permutation(np.flatnonzero(number == TARGETS)) for number in range(5)]


def whole(rows: list[np.ndarray]) -> np.ndarray:
    return np.sort(np.concatenate(rows))


def test_the_test_part_is_drawn_first_then_validation() -> None:
    split, rows = split_of(), shuffled()
    assert_array_equal(split.test, whole([rows[3][:12], rows[1][:12], rows[4]]))
    assert_array_equal(split.val, whole([rows[3][12:20], rows[1][12:20]]))
    assert_array_equal(split.train, whole([rows[3][20:], rows[1][20:], rows[0]]))


def test_background_images_are_held_out_in_the_same_order() -> None:
    split, rows = split_of(background_val_fraction=0.1), shuffled()
    assert_array_equal(split.val, whole([rows[3][12:20], rows[1][12:20], rows[0][:4]]))
    assert_array_equal(split.train, whole([rows[3][20:], rows[1][20:], rows[0][4:]]))


@pytest.mark.parametrize(
    "published", [("train", "test"), ("train", "val"), ("train", "val", "test"), ("", "val")]
)
def test_what_is_published_stays_and_the_rest_is_drawn(published: tuple[str, ...]) -> None:
    parts = np.random.default_rng(1).choice(published, size=len(TARGETS))
    split, rows = split_of(parts=parts), shuffled()
    expected: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for number in (3, 1):
        kept = {part: rows[number][parts[rows[number]] == part] for part in PARTS}
        left = rows[number][~np.isin(parts[rows[number]], ("val", "test"))]
        for part, share in (("test", 0.3), ("val", 0.2)):
            if part in published:
                expected[part].append(kept[part])
            else:
                count = round(share * len(rows[number][~np.isin(parts[rows[number]], ("val", "test"))]))
                expected[part].append(left[:count])
                left = left[count:]
        expected["train"].append(left)
    of_background, of_unknown = rows[0], rows[4]
    expected["train"].append(of_background[~np.isin(parts[of_background], ("val", "test"))])
    is_tested = parts[of_unknown] == "test" if "test" in published else np.full(40, True)
    expected["test"].append(of_unknown[is_tested])
    for part in PARTS:
        assert_array_equal(split.rows(part), whole(expected[part]), err_msg=part)


def nearest(sizes: list[int], wanted: int) -> int:
    """How many of the groups come nearest to a number of images; of two as near the larger."""
    totals = np.cumsum([0, *sizes])
    away = np.abs(totals - wanted)
    return max(1, int(np.flatnonzero(away == away.min())[-1]))


@given(st.lists(st.integers(1, 9), min_size=6, max_size=25), st.integers(0, 99))
def test_shares_are_met_as_nearly_as_whole_groups_can(sizes: list[int], seed: int) -> None:
    groups = np.random.default_rng(seed).permutation(np.arange(len(sizes)).repeat(sizes))
    targets = np.zeros(len(groups), int)
    split = make_split(
        targets, "a", known=[0], unknown=[], val_fraction=0.2, test_fraction=0.3, seed=seed, groups=groups
    )
    order = np.random.default_rng(seed).permutation(len(groups))
    left = list(dict.fromkeys(groups[order].tolist()))
    for part, share, still_empty in (("test", 0.3, 2), ("val", 0.2, 1)):
        count = nearest([sizes[group] for group in left], max(1, round(share * len(groups))))
        count = min(count, len(left) - still_empty)
        assert set(groups[split.rows(part)]) == set(left[:count])
        left = left[count:]
    assert set(groups[split.train]) == set(left)


def test_a_group_that_is_tested_counts_towards_the_share() -> None:
    """Ten groups of four images; two of them hold an image of the unknown class, which is tested."""
    targets, groups = np.append(np.zeros(40, int), [1, 1]), np.append(np.arange(40) // 4, [0, 1])
    split = make_split(
        targets, "ab", known=[0], unknown=[1], val_fraction=0.1, test_fraction=0.3, seed=0, groups=groups
    )
    assert {0, 1} < set(groups[split.test])
    assert [len(set(groups[split.rows(part)])) for part in PARTS] == [6, 1, 3]
    fewer = make_split(
        targets, "ab", known=[0], unknown=[1], val_fraction=0.1, test_fraction=0.1, seed=0, groups=groups
    )
    assert set(groups[fewer.test]) == {0, 1}


def test_a_thinned_part_keeps_the_first_of_its_own_draw() -> None:
    split = split_of()
    few = thinned(split, 5, seed=2)
    for position, part in enumerate(PARTS):
        rows = split.rows(part)
        drawn = [
            np.random.default_rng([2, position, number]).permutation(rows[TARGETS[rows] == number])[:5]
            for number in np.unique(TARGETS[rows])
        ]
        assert_array_equal(few.rows(part), whole(drawn))
    alone = thinned(split_of(background=[], unknown=[0]), 5, seed=2)
    for part in PARTS:
        mine, theirs = (
            found.rows(part)[np.isin(TARGETS[found.rows(part)], [3, 1])] for found in (few, alone)
        )
        assert_array_equal(mine, theirs)


def test_of_copies_the_last_part_keeps_its_own() -> None:
    split, hashes = split_of(), np.arange(len(TARGETS), dtype=np.uint64)
    train, val, test = (split.known_rows(part) for part in PARTS)
    unknown = split.test[split.labels[split.test] < 0]
    for copies in ((train[0], val[0]), (train[1], test[0]), (val[1], test[1]), (train[2], val[2], test[2])):
        hashes[list(copies)] = hashes[copies[-1]]
    hashes[unknown[0]] = hashes[test[3]]
    twice = train[[3, 4]]  # two copies in one part are none of its business
    hashes[twice[0]] = hashes[twice[1]]
    dropped = without_duplicates(split_of(hashes=hashes))
    assert set(split.train) - set(dropped.train) == {*train[:3]}
    assert set(split.val) - set(dropped.val) == {*val[[1, 2]]}
    assert set(split.test) - set(dropped.test) == {unknown[0]}


def test_copies_with_two_labels_are_those_of_a_known_class_and_another_in_some_part() -> None:
    """Labels: dog 0, bee 1; ant is background, elk unknown, cow in no part."""
    split, hashes = split_of(), np.arange(len(TARGETS), dtype=np.uint64)
    dog, bee, ant = (split.train[TARGETS[split.train] == number] for number in (3, 1, 0))
    elk, cow = split.test[TARGETS[split.test] == 4], np.flatnonzero(TARGETS == 2)
    pairs = [(dog[0], bee[0]), (bee[1], elk[0]), (bee[2], ant[0]), (dog[1], elk[1]), (dog[2], ant[1])]
    for first, second in [*pairs, (bee[3], cow[0]), (dog[3], cow[1]), (dog[4], dog[5]), (elk[2], elk[3])]:
        hashes[first] = hashes[second]
    found = split_of(hashes=hashes)
    assert found.label_conflicts == sorted(sorted(map(int, pair)) for pair in pairs)
    assert found.contradictions == []
    assert split.label_conflicts == split.contradictions == split.duplicates == []  # nobody looked at pixels


@pytest.mark.parametrize("name", ["groups", "hashes"])
def test_groups_and_pixels_are_those_of_every_image(name: str) -> None:
    wrong = np.zeros(3, np.uint64 if name == "hashes" else np.int64)
    with pytest.raises(
        InputError, match=rf"^split: {name} must have shape \(200,\), one per image, not \(3,\)"
    ):
        Split(**fields(), **{name: wrong})


# ---- what names a split


def test_digests_are_those_on_record() -> None:
    """Another value here means that every recorded split with groups, pixels or sources has changed."""
    extra = {"groups": np.arange(len(TARGETS)) // 2, "hashes": np.arange(len(TARGETS), dtype=np.uint64) << 40}
    plain = Split(**fields(), **extra)
    sourced = Split(**fields(), **extra, sources=("held_out",) * 4 + ("far",))
    recorded = [
        "0c7272d0aae9496b",
        "42d47eb6a76bfa02",
        "95231593a3935563",
        "42d47eb6a76bfa02",
    ]
    digests = [found for split in (plain, sourced) for found in (split.digest, split.test_digest)]
    assert digests == recorded
    assert split_of().test_digest == "3d93a8494ab638e6"


def fields() -> dict[str, object]:
    groups = np.arange(len(TARGETS)) // 2
    place = np.resize([0, 1, 2], len(TARGETS) // 2)[groups]
    known = np.isin(TARGETS, (3, 1))
    return {
        "targets": TARGETS,
        "class_names": NAMES,
        "known": (3, 1),
        "background": (0,),
        "unknown": (4,),
        "train": np.flatnonzero((known | (TARGETS == 0)) & (place == 0)),
        "val": np.flatnonzero(known & (place == 1)),
        "test": np.flatnonzero((known | (TARGETS == 4)) & (place == 2)),
    }


def test_counts_by_class_part_and_set() -> None:
    split = Split(**fields(), sources=("held_out", "held_out", "held_out", "held_out", "far"))
    counted = {
        name: {part: int((TARGETS[split.rows(part)] == number).sum()) for part in PARTS}
        for number, name in ((3, "dog"), (1, "bee"), (0, "ant"), (4, "elk"))
    }
    assert split.counts() == counted
    assert list(split.counts()) == ["dog", "bee", "ant", "elk"]
    assert split.training_counts() == {name: counted[name]["train"] for name in ("dog", "bee")}
    assert split.source_counts() == {"far": counted["elk"]["test"]}
    assert Split(**fields()).source_counts() == {}
    assert [Split(**fields()).source_of(number) for number in (0, 4)] == ["held_out"] * 2
    assert [split.source_of(number) for number in (0, 4)] == ["held_out", "far"]


def test_a_saved_split_holds_every_column_and_list(tmp_path: Path) -> None:
    extra = {"groups": np.arange(len(TARGETS)) // 2, "hashes": np.arange(len(TARGETS), dtype=np.uint64) % 197}
    split = Split(**fields(), **extra, sources=("held_out",) * 4 + ("far",))
    split.save(tmp_path)
    with (tmp_path / "manifest.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["row", "class_id", "label", "part", "group", "hash"]
    codes = {-1: "unused", 0: "train", 1: "val", 2: "test"}
    for row, line in enumerate(lines):
        assert line == {
            "row": str(row),
            "class_id": str(TARGETS[row]),
            "label": str(split.labels[row]),
            "part": codes[int(split.part_codes[row])],
            "group": str(row // 2),
            "hash": f"{row % 197:016x}",
        }
    summary = json.loads((tmp_path / "split.json").read_text())
    assert list(summary) == [
        "digest", "test_digest", "class_names", "known", "background", "unknown", "sources", "counts",
        "duplicates", "contradictions", "label_conflicts",
    ]  # fmt: skip
    assert summary["sources"] == ["held_out"] * 4 + ["far"]
    for name in ("duplicates", "contradictions", "label_conflicts"):
        rows = getattr(split, name)
        assert summary[name] == {"images": len(rows), "copies": sum(map(len, rows)), "rows": rows}
    loaded = Split.load(tmp_path)
    assert (loaded.digest, loaded.sources) == (split.digest, split.sources)


@pytest.mark.parametrize("digit", ["g", "G", "A", "/", ":", "`", "@"])
def test_what_is_no_hexadecimal_digit_is_refused(tmp_path: Path, digit: str) -> None:
    hashes = np.array([0, 1, 0xFEDCBA9876543210, 2**64 - 1, 0xA0, 0x9F], np.uint64)
    columns = {name: np.arange(6) for name in ("row", "class_id", "label", "part")} | {"hash": hashes}
    path = tmp_path / "manifest.csv"
    write_manifest(path, columns)
    assert_array_equal(read_manifest(path)["hash"], hashes)
    path.write_text(path.read_text().replace("00a0", f"00{digit}0"))
    with pytest.raises(ValueError, match="a hash is no hexadecimal number"):
        read_manifest(path)


@pytest.mark.parametrize(
    "names", ["row,class_id,label", "row,class_id,label,part,odd", "class_id,label,part"]
)
def test_columns_of_a_manifest(tmp_path: Path, names: str) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(f"{names}\n")
    with pytest.raises(ValueError, match=rf"its columns are {', '.join(names.split(','))}$"):
        read_manifest(path)


# ---- which classes


def test_with_other_unknown_sets_no_class_need_be_unknown() -> None:
    digits, taken = tuple("0123456789"), section(background=(0, 1, 6, 7))
    assert choose_classes(taken, "digits", digits, has_other_unknowns=True) == Classes(
        (2, 4, 5, 9, 8, 3), (0, 1, 6, 7), ()
    )
    every = section(protocol="first_k", num_known=4)
    assert choose_classes(every, "arrays", ANIMALS, has_other_unknowns=True) == Classes((0, 1, 2, 3), (), ())


def test_the_note_in_a_file_of_lists_is_no_data_set() -> None:
    with pytest.raises(InputError, match="no class lists for data set 'about'"):
        protocol_classes("A", "about", 0, 10)


def test_a_number_that_two_names_write_is_refused() -> None:
    assert resolve_classes([1], ("1.0", "1", "2"), key="split.known") == [1]
    assert resolve_classes([1, 2], ("1.0", "02"), key="split.known") == [0, 1]
    with pytest.raises(InputError, match=r"split\.known: the data set has no class 1; "):
        resolve_classes([1], ("1.0", "01"), key="split.known")
    assert resolve_classes([0, 3], ANIMALS, key="split.known") == [0, 3]
