"""Extraction: each image once, in order, in eval mode, whatever the batch size."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from extracted import CPU, IMAGES, build, data_of, easy
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from osr.detectors.registry import build_detectors
from osr.inference.extraction import IN_MEMORY, Stored, extract
from osr.models.heads import HEADS
from osr.models.open_set_model import OpenSetModel
from osr.outputs import Outputs

ROWS = np.array([7, 3, 29, 0, 11, 12, 5])
LABELS = np.array([0, 2, -1, 1, -2, 0, -1])


def outputs(
    model: OpenSetModel,
    *,
    rows: np.ndarray = ROWS,
    batch_size: int = 512,
    images: np.ndarray = IMAGES,
    stored: Stored = IN_MEMORY,
) -> Outputs:
    return extract(
        model,
        data_of(images, rows, LABELS[: len(rows)]),
        index=rows,
        batch_size=batch_size,
        device=CPU,
        title="test",
        stored=stored,
    )


def test_images_are_taken_in_the_order_of_the_rows() -> None:
    model = build()
    result = outputs(model, batch_size=3)
    assert_array_equal(result.index, ROWS)
    assert_array_equal(result.labels, LABELS)
    for position, row in enumerate(ROWS):
        with torch.no_grad():
            logits, features = model(torch.from_numpy(IMAGES[row].transpose(2, 0, 1)[None]))
        assert_allclose(result.logits[position], logits[0], rtol=1e-4, atol=1e-5)
        assert_allclose(result.features[position], features[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 6, 7, 8])
def test_the_batch_size_does_not_matter(batch_size: int) -> None:
    whole, parts = outputs(build()), outputs(build(), batch_size=batch_size)
    assert_allclose(parts.logits, whole.logits, rtol=1e-4, atol=1e-5)
    assert_allclose(parts.features, whole.features, rtol=1e-4, atol=1e-5)


def test_the_network_is_put_in_eval_mode_and_learns_nothing() -> None:
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert model.training
    result = outputs(model)
    assert not model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert_array_equal(outputs(model).logits, result.logits)


@pytest.mark.parametrize("neck", ["identity", "linear", "tanh", "t2fnorm"])
@pytest.mark.parametrize("bias", [True, False])
def test_logits_are_the_head_on_the_features(neck: str, bias: bool) -> None:
    model = build(neck=neck, bias=bias)
    result = outputs(model)
    assert result.features.shape == (7, 5 if neck == "linear" else 128)
    assert (
        result.logits.dtype == result.features.dtype == result.weight.dtype == result.bias.dtype == np.float32
    )
    assert_allclose(result.logits, result.features @ result.weight.T + result.bias, rtol=1e-4, atol=1e-5)
    assert_array_equal(result.weight, model.head.weight.detach())
    assert bool(result.bias.any()) == bias


@pytest.mark.parametrize("bias", [True, False])
def test_extra_classes_stand_apart(bias: bool) -> None:
    model = build(bias=bias, extra=2, temperature=3.0)
    result = outputs(model, batch_size=3)
    assert (result.logits.shape, result.extra_logits.shape) == ((7, 3), (7, 2))
    assert (result.weight.shape, result.bias.shape, result.num_classes) == ((3, 5), (3,), 3)
    assert_allclose(result.logits, result.features @ result.weight.T + result.bias, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        logits, _ = model(torch.from_numpy(IMAGES[ROWS].transpose(0, 3, 1, 2)))
    assert_allclose(np.hstack([result.logits, result.extra_logits]), logits, rtol=1e-4, atol=1e-5)
    assert outputs(build()).extra_logits.shape == (7, 0)


@pytest.mark.parametrize("head", sorted(set(HEADS) - {"linear"}))
def test_every_head_is_linear_in_the_stored_features_and_every_detector_takes_it(head: str) -> None:
    model, rows = build(head=head, bias=False, width=24).train(), np.arange(30)
    images = IMAGES // (1 + 2 * (rows % 3)).astype(np.uint8)[:, None, None, None]  # three brightnesses
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        logits, _features = model(torch.from_numpy(images.transpose(0, 3, 1, 2)))
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(rows % 3)).backward()
        optimizer.step()
    result = extract(
        model, data_of(images, rows, rows % 3), index=rows, batch_size=8, device=CPU, title="test"
    )
    assert_allclose(result.logits, result.features @ result.weight.T + result.bias, rtol=1e-4, atol=1e-4)
    for detector in build_detectors(easy({"kplus1", "odin", "rotpred"})).values():
        assert np.isfinite(detector.fit(result).score(result)).all(), detector.name


def test_each_image_passes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = build(), []
    embed: Callable[[Tensor], Tensor] = model.embed

    def counted(pixels: Tensor) -> Tensor:
        sizes.append(len(pixels))
        return embed(pixels)

    monkeypatch.setattr(model, "embed", counted)
    outputs(model, batch_size=3)
    assert sizes == [3, 3, 1]


def test_memory_mapped_images_and_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert_array_equal(outputs(build(), images=mapped).logits, outputs(build()).logits)
    empty = outputs(build(), rows=np.empty(0, dtype=np.int64))
    assert empty.logits.shape == (0, 3)
    assert empty.features.shape == (0, 5)
