"""Outputs: what they refuse, derive, and keep on disk."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from test_extraction import CPU, build

from osr.calibration.calibrators import Temperature
from osr.data.batches import ArrayImages
from osr.detectors.logit_scores import Msp
from osr.errors import InputError
from osr.inference.extraction import extract
from osr.inference.predictor import Predictor
from osr.outputs import BACKGROUND, UNKNOWN, Outputs


@pytest.fixture
def images() -> Outputs:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    features = rng.normal(size=(6, 4)).astype(np.float32)
    labels = np.array([0, 1, 2, UNKNOWN, BACKGROUND, 0])
    return Outputs(features @ weight.T + bias, features, labels, np.arange(10, 16), weight, bias)


def test_derived_numbers(images: Outputs) -> None:
    images.logits[:3] = [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert len(images) == 6
    assert images.num_classes == 3
    assert images.predictions[:3].tolist() == [0, 0, 2]
    assert images.predictions.dtype == np.int64
    assert images.correct[:5].tolist() == [True, False, True, False, False]


@pytest.fixture
def with_extra(images: Outputs) -> Outputs:
    return replace(images, extra_logits=np.arange(12, dtype=np.float32).reshape(6, 2))


def test_extra_logits_are_none_unless_given(images: Outputs, with_extra: Outputs) -> None:
    assert images.extra_logits.shape == (6, 0)
    assert images.select(np.array([2, 1])).extra_logits.shape == (2, 0)
    assert with_extra.select(np.array([2, 1])).extra_logits.tolist() == [[4, 5], [2, 3]]
    assert with_extra.select(np.zeros(6, dtype=bool)).extra_logits.shape == (0, 2)
    assert with_extra.num_classes == 3
    with_extra.extra_logits[:] = 1e9
    assert_array_equal(with_extra.predictions, images.predictions)  # an extra class is never predicted
    with pytest.raises(InputError, match=r"extra_logits must have shape \(6, 2\), not \(5, 2\)"):
        replace(images, extra_logits=with_extra.extra_logits[1:])
    with_extra.extra_logits[3, 1] = np.nan
    with pytest.raises(InputError, match=r"Outputs.extra_logits holds NaN"):
        replace(with_extra)


@pytest.mark.parametrize("name", ["logits", "features", "weight", "bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(images: Outputs, name: str, value: float) -> None:
    array = getattr(images, name).copy()
    array.flat[-1] = value
    with pytest.raises(InputError, match=f"Outputs.{name} holds NaN or infinity"):
        replace(images, **{name: array})


@pytest.mark.parametrize("name", ["features", "labels", "index", "weight", "bias"])
def test_shapes_must_agree(images: Outputs, name: str) -> None:
    with pytest.raises(InputError, match="must have shape"):
        replace(images, **{name: getattr(images, name)[:-1]})


@pytest.mark.parametrize("label", [-3, 3])
def test_labels_outside_the_classes_are_refused(images: Outputs, label: int) -> None:
    labels = images.labels.copy()
    labels[0] = label
    with pytest.raises(InputError, match=r"-2\.\.2"):
        replace(images, labels=labels)


def test_select_keeps_the_head(images: Outputs) -> None:
    chosen = images.select(images.labels >= 0)
    assert chosen.index.tolist() == [10, 11, 12, 15]
    assert_array_equal(chosen.weight, images.weight)
    assert images.select(np.array([5, 0])).index.tolist() == [15, 10]
    assert len(images.select(np.zeros(6, dtype=bool))) == 0


def test_files_give_the_same_arrays(images: Outputs, with_extra: Outputs, tmp_path: Path) -> None:
    for number, saved in enumerate((images, with_extra)):
        saved.save(tmp_path / "deep" / str(number))
        loaded = Outputs.load(tmp_path / "deep" / str(number))
        for field in fields(Outputs):
            assert_array_equal(getattr(loaded, field.name), getattr(saved, field.name))
    assert isinstance(loaded.features, np.memmap)
    assert not loaded.features.flags.writeable


def test_a_missing_or_pickled_file_is_refused(images: Outputs, tmp_path: Path) -> None:
    images.save(tmp_path)
    np.save(tmp_path / "labels.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match=r"labels.npy is damaged.*not what outputs.json beside it names"):
        Outputs.load(tmp_path)
    (tmp_path / "labels.npy").unlink()
    with pytest.raises(InputError, match=r"labels.npy is missing"):
        Outputs.load(tmp_path)


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_a_predictor_repeats_an_extraction_to_the_last_bit(extra):
    network = build(width=128, extra=extra)
    with torch.no_grad():
        network.head.weight.normal_()
    pixels = np.random.default_rng(0).integers(0, 256, (700, 6, 6, 1), dtype=np.uint8)
    rows = np.arange(len(pixels))
    data = ArrayImages(pixels, rows, torch.from_numpy(rows % 3))
    expected = extract(network, data, index=rows, batch_size=512, device=CPU, title="test")
    predictor = Predictor(network, Msp(), threshold=0.0, calibration=Temperature(1.0), batch_size=512)
    found = predictor.outputs(pixels)
    for name in ("logits", "extra_logits", "features", "weight", "bias"):
        assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
