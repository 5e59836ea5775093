"""Protocols: published class lists by name, numbers of classes, and explicit lists by class name or id."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osr.data.settings import DatasetName
from osr.errors import InputError
from osr.params import load_params
from osr.splits.classes import FOLDER, OWN_CLASSES, Classes, choose_classes, protocol_classes, resolve_classes
from osr.splits.settings import ProtocolName, SplitSettings

PROTOCOLS = sorted(path.stem for path in FOLDER.glob("*.json"))
SHIPPED = load_params(Path(__file__).parents[1] / "params.yaml").split.model_dump()
ANIMALS = ("cat", "dog", "3", "frog")
PUBLISHED = Path(__file__).parents[2] / "shared" / "protocols" / "splits.json"
NUM_CLASSES = {"digits": 10, "mnist": 10, "svhn": 10, "cifar10": 10, "cifar10+100": 110, "gtsrb": 43}
NUM_CLASSES |= {"tinyimagenet": 200, "cub": 200, "aircraft": 100, "scars": 196}


def lists(protocol: str) -> dict[str, list]:
    content = json.loads((FOLDER / f"{protocol}.json").read_text())
    return {dataset: trials for dataset, trials in content.items() if dataset != "about"}


def section(**changes: object) -> SplitSettings:
    """The shipped section with other values."""
    return SplitSettings(**SHIPPED | changes)


def test_the_schema_offers_the_files() -> None:
    assert set(get_args(ProtocolName)) == {*PROTOCOLS, "first_k", "random", "explicit"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_list_holds_classes_of_its_data_set_once(protocol: str) -> None:
    assert set(lists(protocol)) <= {*get_args(DatasetName), "cub", "aircraft", "scars"}
    for dataset, trials in lists(protocol).items():
        assert len({json.dumps(trial) for trial in trials}) == len(trials)
        for trial in range(len(trials)):
            known, unknown = protocol_classes(protocol, dataset, trial, NUM_CLASSES[dataset])
            assert len({*known, *unknown}) == len(known) + len(unknown)
            assert {*known, *unknown} <= set(range(NUM_CLASSES[dataset]))
            assert known
            assert unknown


def test_lists_are_those_of_the_shared_copy() -> None:
    if not PUBLISHED.is_file():
        pytest.skip(f"{PUBLISHED} is not there")
    published = json.loads(PUBLISHED.read_text())
    a, b, seed = published["A"], published["B"], published["seed"]
    rest = [
        [number for number in range(10) if number not in unknown]
        for unknown in published["B_unknown_10class"]
    ]
    expected = {
        "A": {"digits": a["mnist"], "mnist": a["mnist"], "svhn": a["svhn"], "cifar10": a["cifar-10-10"]},
        "B": {"digits": rest, "mnist": rest, "svhn": b["svhn"], "cifar10": b["cifar10"]},
        "seed_8_2": {"cifar10": [seed["cifar10_8k_2u"]]},
        "seed_9_1": {"cifar10": [seed["cifar10_1u"]]},
        "seed_7_3": {"cifar10": [seed["cifar10_3u"]]},
        "seed_5_5": {"cifar10": [seed["cifar10_5u"]]},
        "seed_40_3": {"gtsrb": [seed["gtsrb_40k_3u"]]},
        "seed_37_6": {"gtsrb": [seed["gtsrb_37k_6u"]]},
        "seed_34_9": {"gtsrb": [seed["gtsrb_34k_9u"]]},
    }
    expected["A"]["tinyimagenet"] = a["tinyimagenet"]
    expected["B"]["tinyimagenet"] = b["tiny_imagenet"]
    plus = {
        "A+10": (a["cifar-10-100"], a["cifar-10-100-10"]),
        "A+50": (a["cifar-10-100"], a["cifar-10-100-50"]),
        "B+10": (b["cifar100"], b["cifar100-10"]),
        "B+50": (b["cifar100"], b["cifar100-50"]),
    }
    for name, groups in plus.items():
        expected[name] = {
            "cifar10+100": [
                {"known": known, "unknown": [number + 10 for number in unknown]}
                for known, unknown in zip(*groups, strict=True)
            ]
        }
    for level in ("Easy", "Medium", "Hard"):
        expected[f"SSB_{level.lower()}"] = {
            name: [{"known": benchmark["known_classes"], "unknown": benchmark["unknown_classes"][level]}]
            for name, benchmark in published["SSB"].items()
            if not name.startswith("imagenet")
        }
    assert {protocol: lists(protocol) for protocol in PROTOCOLS} == expected


def test_trials_as_published() -> None:
    assert protocol_classes("A", "digits", 0, 10) == ([2, 4, 5, 9, 8, 3], [0, 1, 6, 7])
    assert protocol_classes("A", "digits", 4, 10) == ([6, 3, 4, 9, 8, 2], [0, 1, 5, 7])
    assert protocol_classes("seed_8_2", "cifar10", 0, 10) == ([0, 1, 2, 3, 4, 5, 6, 7], [8, 9])
    known, unknown = protocol_classes("B+10", "cifar10+100", 0, 110)
    assert known == [0, 1, 8, 9]
    assert unknown == [13, 25, 29, 31, 52, 56, 76, 82, 88, 108]


def test_a_trial_or_data_set_without_lists_is_refused() -> None:
    with pytest.raises(InputError) as error:
        protocol_classes("A", "digits", 5, 10)
    assert str(error.value) == "split.trial is 5, but protocol A on digits has trials 0..4."
    with pytest.raises(InputError) as error:
        protocol_classes("A", "moons", 0, 2)
    names = ", ".join(lists("A"))
    assert str(error.value) == (
        f"split.protocol A has no class lists for data set 'moons'; it has: {names}. "
        f"{OWN_CLASSES} Another set with these classes takes the lists by split.lists_of."
    )
    assert {"explicit", "first_k", "random"} <= set(OWN_CLASSES.replace(",", " ").split())
    with pytest.raises(InputError) as error:
        protocol_classes("A", "digits", 0, 9)
    assert str(error.value) == (
        "split.protocol A names class 9 of digits, but the data set has classes 0..8."
    )


def test_another_set_takes_published_lists_by_name() -> None:
    names = [str(number) for number in range(43)]
    classes = choose_classes(section(protocol="seed_40_3", lists_of="gtsrb"), "arrays", names)
    assert classes == Classes(tuple(range(40)), (), (40, 41, 42))
    with pytest.raises(InputError, match="no class lists for data set 'arrays'"):
        choose_classes(section(protocol="seed_40_3"), "arrays", names)


def test_background_classes_are_taken_from_the_unknown_ones() -> None:
    classes = choose_classes(section(background=("7", 0)), "digits", tuple("0123456789"))
    assert classes == Classes((2, 4, 5, 9, 8, 3), (7, 0), (1, 6))
    with pytest.raises(InputError, match="no unknown class is left to test"):
        choose_classes(section(background=(0, 1, 6, 7)), "digits", tuple("0123456789"))


def test_explicit_lists_take_names_and_ids() -> None:
    settings = section(protocol="explicit", known=("frog", 0), background=("3",), unknown=("dog",))
    assert choose_classes(settings, "arrays", ANIMALS) == Classes((3, 0), (2,), (1,))


def test_no_class_need_be_unknown() -> None:
    """All classes are known by an empty list, by naming them, and by a number; by `all` none is left over."""
    settings = section(protocol="explicit")
    assert choose_classes(settings, "folder", ANIMALS) == Classes((0, 1, 2, 3), (), ())
    settings = section(protocol="explicit", background=("dog",), unknown=(3,))
    assert choose_classes(settings, "folder", ANIMALS) == Classes((0, 2), (1,), (3,))
    for protocol in ("first_k", "random"):
        settings = section(protocol=protocol, num_known=4, num_unknown=0)
        assert choose_classes(settings, "folder", ANIMALS) == Classes((0, 1, 2, 3), (), ())
    settings = section(protocol="explicit", unknown=(1, 2, 3))
    with pytest.raises(InputError, match="all other classes, but these are 1"):
        choose_classes(settings, "folder", ANIMALS)


def test_first_k_are_the_first() -> None:
    names = tuple("abcdefg")
    assert choose_classes(section(protocol="first_k", num_known=3), "arrays", names) == Classes(
        (0, 1, 2), (), (3, 4, 5, 6)
    )
    settings = section(protocol="first_k", num_known=3, num_unknown=2, background=("b",))
    assert choose_classes(settings, "arrays", names) == Classes((0, 2, 3), (1,), (4, 5))


@given(st.integers(0, 10_000), st.integers(3, 30), st.data())
def test_random_classes_follow_their_seed(trial: int, num_classes: int, data: st.DataObject) -> None:
    num_known = data.draw(st.integers(2, num_classes - 1))
    num_unknown = data.draw(st.integers(1, num_classes - num_known) | st.just("all"))
    settings = section(protocol="random", trial=trial, num_known=num_known, num_unknown=num_unknown)
    names = [str(number) for number in range(num_classes)]
    classes = choose_classes(settings, "digits", names)
    assert classes == choose_classes(settings, "digits", names)
    order = np.random.default_rng(trial).permutation(num_classes).tolist()
    assert list(classes.known) == sorted(order[:num_known])
    end = None if num_unknown == "all" else num_known + num_unknown
    assert list(classes.unknown) == sorted(order[num_known:end])


@pytest.mark.parametrize(("num_known", "num_unknown"), [(4, "all"), (3, 2), (9, 1), (9, 0), (5, 0)])
def test_more_classes_than_there_are(num_known: int, num_unknown: int | str) -> None:
    settings = section(protocol="random", num_known=num_known, num_unknown=num_unknown)
    with pytest.raises(InputError) as error:
        choose_classes(settings, "arrays", ANIMALS)
    hint = "; split.num_unknown: 0 trains on all of them" if num_known == 4 else ""
    assert str(error.value) == (
        f"split.num_known is {num_known} and split.num_unknown is {num_unknown}, but 4 classes are "
        f"free{hint}."
    )


def test_names_and_ids_become_ids_in_their_order() -> None:
    assert resolve_classes(["frog", 0, "dog"], ANIMALS, key="split.known") == [3, 0, 1]
    assert resolve_classes([], ANIMALS, key="split.known") == []


def test_a_text_is_a_name_and_a_number_an_id() -> None:
    assert resolve_classes(["3", 3], ANIMALS, key="split.known") == [2, 3]


def test_numbers_are_names_where_all_names_are_numbers() -> None:
    names = ("1", "2", "10")  # labels of the user's own that start at 1
    assert resolve_classes([1, "2", 10], names, key="split.known") == [0, 1, 2]
    with pytest.raises(InputError, match=r"has no class 0; .*"):
        resolve_classes([0], names, key="split.known")


@pytest.mark.parametrize(
    ("entry", "end"),
    [
        ("forg", "'forg'; did you mean 'frog'?"),
        ("zebra", "'zebra'; classes that are not in the list: dog, 3, frog."),
        (4, "4; classes: cat, dog, 3, frog."),
        (-1, "-1; classes: cat, dog, 3, frog."),
        ("0", "'0'; classes that are not in the list: dog, 3, frog."),
        ("cats", "'cats'; classes that are not in the list: dog, 3, frog."),
    ],
)
def test_a_class_that_is_not_there_is_named(entry: int | str, end: str) -> None:
    with pytest.raises(InputError) as error:
        resolve_classes(["cat", entry], ANIMALS, key="split.unknown")
    assert str(error.value) == f"split.unknown: the data set has no class {end}"
