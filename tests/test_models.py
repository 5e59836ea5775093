"""The open-set model around a backbone: its neck and heads, and what stands before it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_models import build, model_settings, pictures, unreached
from torch import Tensor, nn

from osr.errors import InputError
from osr.models.heads import HEADS
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat, Preprocess, format_for
from osr.models.settings import HeadSettings


def test_a_frozen_backbone_neither_learns_nor_moves_its_statistics() -> None:
    model = build(neck="linear")
    model.freeze([model.backbone])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    assert model.neck.training
    assert not any(layer.training for layer in model.backbone.modules())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        logits, _features = model(pictures(6))
        optimizer.zero_grad()
        logits.square().mean().backward()
        optimizer.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith(("neck.", "head.")) for name in changed)
    assert {"head.weight", "neck.0.weight", "neck.1.running_mean"} <= changed
    assert build(neck="linear").train().backbone.training


@pytest.mark.parametrize("neck", ["identity", "linear", "tanh", "t2fnorm"])
@pytest.mark.parametrize("bias", [True, False])
def test_logits_are_linear_in_the_features(neck: str, bias: bool) -> None:
    model = build(neck=neck, bias=bias).eval()
    logits, features = model(pictures(5))
    assert features.shape == (5, 16 if neck == "linear" else 128)
    assert (model.head.bias is not None) == bias
    expected = features @ model.head.weight.T + (model.head.bias if bias else 0)
    torch.testing.assert_close(logits, expected)
    if neck == "linear":
        assert bool((features >= 0).all())
    if neck == "t2fnorm":  # as they are, divided by tau; of one length while it learns
        bare = model.backbone(model.preprocess(pictures(5)))
        torch.testing.assert_close(features, bare / 0.1)
        learned = model.neck.train()(bare)
        torch.testing.assert_close(learned, 10 * bare / bare.norm(dim=1, keepdim=True))
        assert torch.equal(model.neck(torch.zeros(2, 3)), torch.zeros(2, 3))
    if neck == "tanh":
        plain = build(bias=bias).eval()
        plain.load_state_dict(model.state_dict())
        torch.testing.assert_close(features, plain(pictures(5))[1].tanh())
    assert unreached(model, (logits * torch.randn_like(logits)).sum()) == []


@pytest.mark.parametrize("neck", ["identity", "linear", "tanh"])
@pytest.mark.parametrize("name", sorted(HEADS))
def test_every_head_is_linear_in_its_features(tmp_path: Path, name: str, neck: str) -> None:
    model = build(neck=neck, head=name, bias=False).eval()
    logits, features = model(pictures(5))
    bias = 0 if model.head.bias is None else model.head.bias
    torch.testing.assert_close(logits, features @ model.head.weight.T + bias)
    assert unreached(model, (logits * torch.randn_like(logits)).sum()) == []
    model.save(tmp_path / "model.safetensors")
    assert torch.equal(OpenSetModel.load(tmp_path / "model.safetensors")(pictures(5))[0], logits)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", sorted(HEADS))
def test_temperature_divides_the_logits_of_every_head(tmp_path: Path, name: str, bias: bool) -> None:
    chosen = {"head": name, "bias": bias and name in ("linear", "weight_norm")}
    logits, features = build(**chosen).eval()(pictures(5))
    model = build(**chosen, temperature=4.0).eval()
    cooled, same = model(pictures(5))
    torch.testing.assert_close(cooled, logits / 4)
    assert torch.equal(same, features)
    weight, offset = model.head.affine()
    torch.testing.assert_close(cooled, features @ weight.T + (0 if offset is None else offset))
    model.save(tmp_path / "model.safetensors")
    assert torch.equal(OpenSetModel.load(tmp_path / "model.safetensors")(pictures(5))[0], cooled)


@pytest.mark.parametrize("name", sorted(HEADS))
def test_extra_classes_come_after_the_known_ones(tmp_path: Path, name: str) -> None:
    model = build(head=name, bias=False, extra=2).eval()
    logits, features = model(pictures(5))
    assert logits.shape == (5, 5)
    assert (model.head.num_classes, model.head.num_outputs) == (3, 5)
    weight, offset = model.head.affine()
    torch.testing.assert_close(logits, features @ weight.T + (0 if offset is None else offset))
    assert unreached(model, (logits * torch.randn_like(logits)).sum()) == []
    model.save(tmp_path / "model.safetensors")
    assert torch.equal(OpenSetModel.load(tmp_path / "model.safetensors")(pictures(5))[0], logits)


def head(name: str, weight: list[list[float]], **parameters: Tensor) -> nn.Module:
    """A head for two classes over two vectors, with chosen parameters."""
    made = HEADS[name](
        2, 2, HeadSettings(name=name, bias=False, scale=10.0, temperature=1.0, extra_classes=0)
    )
    for parameter in made.parameters():
        parameter.data = (
            parameters.get("length", torch.tensor(weight)) if parameter.ndim == 1 else torch.tensor(weight)
        )
    return made


def test_heads_by_hand() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    cosine = head("cosine", [[2.0, 0.0], [0.0, -0.5]])
    torch.testing.assert_close(cosine.embed(vectors), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    torch.testing.assert_close(cosine(cosine.embed(vectors)), torch.tensor([[6.0, -8.0], [0.0, 0.0]]))
    torch.testing.assert_close(cosine.weight.norm(dim=1), torch.tensor([10.0, 10.0]))
    normalised = head("weight_norm", [[2.0, 0.0], [0.0, -0.5]], length=torch.tensor([5.0, 3.0]))
    torch.testing.assert_close(normalised(vectors), torch.tensor([[15.0, -12.0], [0.0, 0.0]]))
    points = torch.tensor([[1.0, 2.0], [-2.0, 0.5]])
    reciprocal = head("reciprocal", points.tolist())
    expected = ((vectors[:, None] - points) ** 2).mean(2) - vectors @ points.T
    torch.testing.assert_close(reciprocal(reciprocal.embed(vectors)), expected)
    # (4 + 4) / 2 - 11 and (25 + 12.25) / 2 + 4, by hand.
    torch.testing.assert_close(expected[0], torch.tensor([-7.0, 22.625]))


def test_a_weight_normalised_head_starts_as_the_linear_one() -> None:
    linear, normalised = build(head="linear").eval(), build(head="weight_norm").eval()
    torch.testing.assert_close(linear(pictures(5)), normalised(pictures(5)))
    torch.testing.assert_close(normalised.head.length, linear.head.weight.norm(dim=1))


@pytest.mark.parametrize("name", ["cosine", "reciprocal"])
def test_a_bias_is_refused_where_there_is_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"model\.head\.bias is true, but must be false when"):
        HeadSettings(name=name, bias=True, scale=1.0, temperature=1.0, extra_classes=0)


def test_pixels_are_normalised_per_channel() -> None:
    images = pictures(2, 3, 4)
    prepared = Preprocess(ImageFormat(4, 3, (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)))(images)
    for channel, (mean, std) in enumerate(((0.1, 0.5), (0.2, 1.0), (0.3, 2.0))):
        assert_allclose(
            prepared[:, channel], (images[:, channel].numpy() / 255 - mean) / std, rtol=1e-5, atol=1e-6
        )
    assert prepared.dtype == torch.float32


def test_grey_images_become_colour() -> None:
    images = pictures(2)
    prepared = Preprocess(ImageFormat(8, 3, (0.0, 0.0, 0.5), (1.0, 0.5, 1.0)))(images)
    grey = images[:, 0] / 255
    assert prepared.shape == (2, 3, 8, 8)
    for channel, expected in enumerate((grey, 2 * grey, grey - 0.5)):
        torch.testing.assert_close(prepared[:, channel], expected)


def test_images_are_resized() -> None:
    identity = {"mean": (0.0,), "std": (1.0,)}
    # Halving with antialiasing: a triangle over four pixels, 1/8, 3/8, 3/8, 1/8.
    row = torch.tensor([0, 0, 0, 0, 240, 0, 0, 0], dtype=torch.uint8)
    halved = Preprocess(ImageFormat(4, 1, **identity))(row.expand(1, 1, 8, 8)) * 255
    assert_allclose(halved[0, 0], [[0, 240 / 8, 240 * 3 / 8, 0]] * 4, rtol=1e-5)
    flat = Preprocess(ImageFormat(5, 1, **identity))(torch.full((1, 1, 8, 6), 51, dtype=torch.uint8))
    assert_allclose(flat, np.full((1, 1, 5, 5), 0.2), rtol=1e-5)


def test_statistics_are_those_of_the_training_images() -> None:
    images = np.random.default_rng(0).integers(0, 200, (50, 6, 6, 3), dtype=np.uint8)
    images[..., 2] = 40
    image_format = format_for(model_settings(), images)
    pixels = images.astype(np.float64) / 255
    assert (image_format.size, image_format.channels) == (6, 3)
    assert_allclose(image_format.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    assert_allclose(image_format.std[:2], pixels.std(axis=(0, 1, 2))[:2], rtol=1e-12)
    assert image_format.std[2] == 1 / 255  # a constant channel is not divided by zero
    prepared = Preprocess(image_format)(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    assert_allclose(prepared.mean(dim=(0, 2, 3)), 0, atol=1e-4)
    assert_allclose(prepared.std(dim=(0, 2, 3), correction=0)[:2], 1, atol=1e-4)


def test_the_size_is_chosen_or_that_of_square_images() -> None:
    wide = np.zeros((2, 6, 8, 1), np.uint8)
    assert format_for(model_settings(size=10), wide).size == 10
    with pytest.raises(InputError, match=r"model.image_size must be a number of pixels for images of 6 x 8"):
        format_for(model_settings(), wide)


def test_trained_weights_keep_their_normalisation() -> None:
    grey = np.full((2, 32, 32, 1), 9, np.uint8)
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for weights in ("pretrained", "file.pth"):
        image_format = format_for(model_settings(backbone="resnet18", weights=weights), grey)
        assert image_format == ImageFormat(224, 3, *imagenet, "bicubic", 0.95)
    assert format_for(model_settings(backbone="resnet18"), grey).channels == 1
    assert format_for(model_settings(weights="file.pth"), grey).channels == 1
