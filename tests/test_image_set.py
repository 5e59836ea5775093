"""Images with their classes, parts and groups: what breaks the contract is refused."""

import numpy as np
import pytest

from osr.data.images import ImageSet, numbered
from osr.errors import InputError


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"images": np.zeros((2, 4, 4, 1))},
            "images must be uint8 of shape (N, H, W, 1 or 3), not float64 (2, 4, 4, 1).",
        ),
        (
            {"images": np.zeros((2, 4, 4), np.uint8)},
            "images must be uint8 of shape (N, H, W, 1 or 3), not uint8 (2, 4, 4).",
        ),
        (
            {"images": np.zeros((2, 4, 4, 4), np.uint8)},
            "images must be uint8 of shape (N, H, W, 1 or 3), not uint8 (2, 4, 4, 4).",
        ),
        ({"targets": np.array([0, 1], np.uint8)}, "targets must be an array of int64, not uint8."),
        ({"targets": [0, 1]}, "targets must be an array of int64, not list."),
        ({"groups": np.array(["a", "b"])}, "groups must be an array of int64, not <U1."),
        ({"class_names": ("a", " b")}, "class names must be text without spaces at its ends, not ' b'."),
        ({"targets": np.array([0])}, "2 images need as many targets, not (1,)."),
        ({"targets": np.array([0, 2])}, "targets must lie in 0..1."),
        ({"targets": np.array([-1, 0])}, "targets must lie in 0..1."),
        ({"parts": np.array(["train"])}, "2 images need as many parts, not (1,)."),
        ({"parts": np.array(["train", "dev"])}, "parts must be train, val or test, not 'dev'."),
        ({"groups": np.array([[0, 1]])}, "2 images need as many groups, not (1, 2)."),
        ({"class_names": ("a", "a")}, "class names must differ, but 'a' stands 2 times."),
    ],
)
def test_what_breaks_the_contract_is_refused(changes: dict, sentence: str) -> None:
    content = {
        "images": np.zeros((2, 4, 4, 3), np.uint8),
        "targets": np.array([0, 1]),
        "class_names": ("a", "b"),
    }
    ImageSet(**content)
    with pytest.raises(InputError) as error:
        ImageSet(**content | changes)
    assert str(error.value) == sentence


def test_numbers_of_groups() -> None:
    assert numbered(np.array(["b", "a", "b"])).tolist() == [1, 0, 1]
    assert numbered(np.array([7, 7, 2, 2]), np.array([0, 1, 0, 0])).tolist() == [1, 2, 0, 0]
    with pytest.raises(InputError, match=r"arrays that make groups must have shape \(2,\), not \(3,\)\."):
        numbered(np.zeros(2), np.zeros(3))
