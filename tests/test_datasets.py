"""Data sets: every registered one keeps the contract, and an image set refuses what breaks it."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.datasets import load_digits

from osr.data.datasets import DATASETS, ImageSet
from osr.errors import InputError


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_contract(name: str) -> None:
    data, again = DATASETS[name](), DATASETS[name]()
    assert data.images.dtype == np.uint8
    assert data.targets.dtype == np.int64
    assert len(data.images) == len(data.targets)
    assert set(data.targets.tolist()) == set(range(len(data.class_names)))
    assert len(set(data.class_names)) == len(data.class_names)
    assert data.images.min() < data.images.max()
    assert_array_equal(data.images, again.images)
    assert_array_equal(data.targets, again.targets)


def test_digits_are_those_of_scikit_learn() -> None:
    data, bunch = DATASETS["digits"](), load_digits()
    assert data.images.shape == (1797, 8, 8, 1)
    assert data.class_names == tuple("0123456789")
    assert_array_equal(data.targets, bunch.target)
    # 0..16 set points of a block become 0..255.
    assert_array_equal(np.round(data.images[..., 0] / (255 / 16)), bunch.images)
    assert data.images.max() == 255
    assert sorted(set(data.images.ravel().tolist()))[:3] == [0, 16, 32]


@pytest.mark.parametrize(
    ("images", "targets", "sentence"),
    [
        (np.zeros((2, 4, 4, 1)), [0, 1], "uint8 of shape (N, H, W, 1 or 3), not float64 (2, 4, 4, 1)."),
        (np.zeros((2, 4, 4), np.uint8), [0, 1], "uint8 of shape (N, H, W, 1 or 3), not uint8 (2, 4, 4)."),
        (
            np.zeros((2, 4, 4, 4), np.uint8),
            [0, 1],
            "uint8 of shape (N, H, W, 1 or 3), not uint8 (2, 4, 4, 4).",
        ),
        (np.zeros((2, 4, 4, 3), np.uint8), [0], "2 images need as many targets, not (1,)."),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 2], "targets must lie in 0..1."),
        (np.zeros((2, 4, 4, 3), np.uint8), [-1, 0], "targets must lie in 0..1."),
    ],
)
def test_what_breaks_the_contract_is_refused(images: np.ndarray, targets: list[int], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        ImageSet(images, np.array(targets), ("a", "b"))
    assert str(error.value).removeprefix("images must be ") == sentence
