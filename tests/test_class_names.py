"""Names of classes: which may be one class, which are numbers, and which a known class may not have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osr.data.images import classes_of
from osr.errors import InputError
from osr.splits.classes import resolve_classes
from osr.splits.division import make_split
from osr.splits.names import as_number, similar_names


def test_names_that_may_be_one_class() -> None:
    names = dict(enumerate(("Polar bear", "polar_bear", "cat", "CAT", "c++", "c", "cafe\u0301", "caf\u00e9")))
    assert similar_names(names, {0, 4, 7}) == [[0, 1], [6, 7]]
    assert similar_names(names, {3}) == [[2, 3]]
    assert similar_names(dict(enumerate(("01", "1", "1.0", "-1", "a 1"))), {1}) == [[0, 1, 2]]


@given(st.lists(st.decimals(-1000, 1000, places=1), min_size=2, max_size=9, unique=True))
def test_numbers_are_numbers_however_they_are_written(values) -> None:
    names = [str(value) for value in values]
    targets, class_names = classes_of(np.array(names))
    assert [as_number(name) for name in class_names] == sorted(values)
    assert [class_names[target] for target in targets] == names
    wanted = [int(value) for value in values if value == int(value)]
    found = resolve_classes(wanted, class_names, key="split.known")
    assert [as_number(class_names[number]) for number in found] == wanted
    assert as_number("1e3") is as_number("１") is as_number("0x1") is None


@pytest.mark.parametrize("name", ["unknown", "Unknown", "UNKNOWN"])
def test_a_known_class_may_not_be_called_like_the_verdict(name: str) -> None:
    arguments = {"known": [0, 1], "unknown": [2], "val_fraction": 0.2, "test_fraction": 0.2, "seed": 0}
    targets = np.repeat([0, 1, 2], 20)
    with pytest.raises(InputError, match=f"split.known: class '{name}' has the name of the verdict"):
        make_split(targets, ("a", name, "b"), **arguments)
    assert make_split(targets, ("a", "b", name), **arguments).unknown == (2,)
