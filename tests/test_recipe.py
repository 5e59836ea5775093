"""The harness that ranks recipes sees no unknown class and no test image."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.recipe import judge, settings, without_test
from osr.data.datasets import load_images
from osr.data.images import ImageSet

ROOT = Path(__file__).parents[1]


def test_a_recipe_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params = settings(["digits_quick"], ["train.epochs=3", "train.accelerator=cpu"])
    assert params.train.epochs == 3
    accuracy, auroc = judge(params, load_images(params.dataset), trial=0, pair=1)
    assert accuracy > 0.5
    assert 0 < auroc < 1
    assert judge(params, load_images(params.dataset), trial=0, pair=1) == (accuracy, auroc)


def test_a_published_test_part_is_left_out() -> None:
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    parts = np.array(["train", "test", "val", "test", "train", "train"])
    data = ImageSet(images, np.array([0, 0, 1, 1, 0, 1]), ("a", "b"), parts=parts)
    left = without_test(data)
    assert left.images.ravel().tolist() == [0, 2, 4, 5]
    assert left.targets.tolist() == [0, 1, 0, 1]
    assert left.parts is None
    assert without_test(left) is left
