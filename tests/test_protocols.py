"""Protocols: published class lists by name, and explicit ones by class name or id."""

import json
from typing import get_args

import pytest

from osr.config import DatasetName, SplitSettings
from osr.data.datasets import DATASETS
from osr.errors import InputError
from osr.protocols.classes import FOLDER, protocol_classes, resolve_classes

PROTOCOLS = sorted(path.stem for path in FOLDER.glob("*.json"))
ANIMALS = ("cat", "dog", "3", "frog")


def lists(protocol: str) -> dict[str, list[list[int]]]:
    content = json.loads((FOLDER / f"{protocol}.json").read_text())
    return {dataset: trials for dataset, trials in content.items() if dataset != "about"}


def test_the_schema_offers_the_files() -> None:
    choices = get_args(SplitSettings.model_fields["protocol"].annotation)
    assert set(choices) == {*PROTOCOLS, "explicit"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_list_holds_classes_of_its_data_set_once(protocol: str) -> None:
    assert set(lists(protocol)) <= set(get_args(DatasetName))
    for dataset, trials in lists(protocol).items():
        num_classes = len(DATASETS[dataset]().class_names)
        assert len({tuple(trial) for trial in trials}) == len(trials)
        for trial in trials:
            assert len(set(trial)) == len(trial)
            assert set(trial) < set(range(num_classes))


def test_trials_of_digits_as_published() -> None:
    assert protocol_classes("A", "digits", 0, 10) == ([2, 4, 5, 9, 8, 3], [0, 1, 6, 7])
    assert protocol_classes("A", "digits", 4, 10) == ([6, 3, 4, 9, 8, 2], [0, 1, 5, 7])


def test_a_trial_or_data_set_without_lists_is_refused() -> None:
    with pytest.raises(InputError) as error:
        protocol_classes("A", "digits", 5, 10)
    assert str(error.value) == "split.trial is 5, but protocol A on digits has trials 0..4."
    with pytest.raises(InputError) as error:
        protocol_classes("A", "moons", 0, 2)
    names = ", ".join(lists("A"))
    assert str(error.value) == f"split.protocol A has no class lists for data set 'moons'; it has: {names}."


def test_names_and_ids_become_ids_in_their_order() -> None:
    assert resolve_classes(["frog", 0, "dog"], ANIMALS, key="split.known") == [3, 0, 1]
    assert resolve_classes([], ANIMALS, key="split.known") == []


def test_a_text_is_a_name_and_a_number_an_id() -> None:
    assert resolve_classes(["3", 3], ANIMALS, key="split.known") == [2, 3]


@pytest.mark.parametrize(
    ("entry", "end"),
    [
        ("forg", "'forg'; did you mean 'frog'?"),
        ("zebra", "'zebra'; classes: cat, dog, 3, frog."),
        (4, "4; classes: cat, dog, 3, frog."),
        (-1, "-1; classes: cat, dog, 3, frog."),
        ("0", "'0'; classes: cat, dog, 3, frog."),
    ],
)
def test_a_class_that_is_not_there_is_named(entry: int | str, end: str) -> None:
    with pytest.raises(InputError) as error:
        resolve_classes(["cat", entry], ANIMALS, key="split.unknown")
    assert str(error.value) == f"split.unknown: the data set has no class {end}"
