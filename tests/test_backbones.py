"""Backbones by name: their features, their stems, and the names and images that are refused."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from small_models import build, pictures, unreached
from torch import nn

from osr.errors import InputError
from osr.models.backbones import build_backbone, feature_width
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat

BACKBONES = [  # name, channels, image size, features
    ("small_convnet", 1, 8, 128),
    ("small_convnet", 3, 32, 128),
    ("classifier32", 3, 32, 128),
    ("resnet18", 1, 32, 512),
    ("efficientnet_b0", 3, 32, 1280),
    ("vit_tiny_patch16_224", 3, 32, 192),
    ("vit_small_patch14_dinov2", 3, 28, 384),
]


@pytest.mark.parametrize(("name", "channels", "size", "width"), BACKBONES)
def test_every_backbone_gives_features_and_learns(name: str, channels: int, size: int, width: int) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, weights="none", channels=channels, image_size=size)
    backbone.train()
    assert feature_width(backbone, name=name, channels=channels, image_size=size) == width
    assert backbone.training
    with torch.no_grad():
        for parameter in backbone.parameters():
            if not parameter.any():  # biases, and the last norm of a residual branch: it would block the rest
                parameter.fill_(0.1)
    features = backbone(torch.randn(3, channels, size, size))
    assert features.shape == (3, width)
    assert unreached(backbone, (features * torch.randn_like(features)).sum()) == []


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vgg11"])
def test_the_width_is_that_of_the_classifier(name: str) -> None:
    """Where timm's `num_features` is another number."""
    shape = {"channels": 3, "image_size": 32}
    backbone = build_backbone(name, weights="none", **shape)
    width = feature_width(backbone, name=name, **shape)
    assert width == backbone.head_hidden_size != backbone.num_features


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "levit_128s", "repvit_m0_9"])
def test_several_classifiers_are_refused_by_name(name: str) -> None:
    size = 224 if name == "levit_128s" else 32
    with pytest.raises(InputError, match=f"^model.backbone.name '{name}' has several classifiers"):
        build_backbone(name, weights="none", channels=3, image_size=size)


def test_small_convnet_is_what_it_says() -> None:
    backbone = build_backbone("small_convnet", weights="none", channels=3, image_size=32)
    shapes = [tuple(m.weight.shape) for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    widths = [3, 32, 32, 64, 64]
    assert shapes == [(out, inner, 3, 3) for inner, out in pairwise(widths)]
    assert backbone(torch.zeros(2, 3, 4, 4)).shape == (2, 128)


@pytest.mark.parametrize("channels", [1, 3])
def test_classifier32_is_the_published_network(channels: int) -> None:
    torch.manual_seed(0)
    backbone = build_backbone("classifier32", weights="none", channels=channels, image_size=32)
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    widths = [3, 64, 64, *[128] * 7]
    assert [tuple(m.weight.shape) for m in convolutions] == [(o, i, 3, 3) for i, o in pairwise(widths)]
    assert [m.stride[0] for m in convolutions] == [1, 1, 2] * 3
    kinds = [type(m).__name__ for m in backbone.layers]
    block = ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert kinds == ["Dropout2d", *block * 3] * 3 + ["AdaptiveAvgPool2d", "Flatten"]
    assert {m.negative_slope for m in backbone.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert {m.p for m in backbone.modules() if isinstance(m, nn.Dropout2d)} == {0.2}
    assert all(m.bias is None and abs(m.weight.std() - 0.05) < 0.003 for m in convolutions)
    norms = torch.cat([m.weight for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)])
    assert abs(norms.mean() - 1) < 0.003
    assert abs(norms.std() - 0.02) < 0.003


def test_classifier32_takes_grey_images_as_three_equal_channels() -> None:
    grey, colour = (build_backbone("classifier32", weights="none", channels=n, image_size=32) for n in (1, 3))
    colour.load_state_dict(grey.state_dict())
    images = torch.rand(8, 1, 32, 32) + 1
    assert torch.equal(grey.eval()(images), colour.eval()(images.expand(-1, 3, -1, -1)))
    after_dropout: list[torch.Tensor] = []
    grey.layers[0].register_forward_hook(lambda _layer, _inputs, output: after_dropout.append(output))
    grey.train()(torch.rand(256, 1, 8, 8) + 1)
    # 0.2³ of the images lose all three channels, two of 256; of a single channel 51 would.
    assert (after_dropout[0].flatten(1) == 0).all(dim=1).sum() < 12


STEMS = [  # name, side of the last map of 32 x 32 images, with the usual stem and with the small one
    ("resnet18", 1, 4),
    ("resnet18d", 1, 4),
    ("densenet121", 1, 4),
    ("efficientnet_b0", 1, 2),
    ("mobilenetv3_small_100", 1, 2),
    ("regnety_002", 1, 2),
]


@pytest.mark.parametrize(("name", "usual", "small"), STEMS)
def test_a_small_image_stem_keeps_the_pixels(name: str, usual: int, small: int) -> None:
    for stem, side in ((False, usual), (True, small), ("auto", small)):
        torch.manual_seed(0)
        shape = {"channels": 1, "image_size": 32}
        backbone = build_backbone(name, weights="none", small_image_stem=stem, **shape).eval()
        with torch.no_grad():
            assert backbone.forward_features(torch.zeros(1, 1, 32, 32)).shape[2:] == (side, side)
    first = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    assert (first.kernel_size, first.stride) == ((3, 3), (1, 1))


def test_auto_keeps_the_stem_of_large_images_and_of_trained_weights(tmp_path: Path) -> None:
    usual = build_backbone("resnet18", weights="none", channels=1, image_size=32)
    torch.save(usual.state_dict(), tmp_path / "w.pth")
    for size, weights in ((65, "none"), (32, str(tmp_path / "w.pth"))):
        shape = {"channels": 1, "image_size": size}
        backbone = build_backbone("resnet18", weights=weights, small_image_stem="auto", **shape)
        assert backbone.conv1.kernel_size == (7, 7)
    colour = ImageFormat(32, 1, (0.5,), (0.5,))
    model = build(backbone="resnet18", weights=str(tmp_path / "w.pth"), image_format=colour).eval()
    model.save(tmp_path / "model.safetensors")
    loaded = OpenSetModel.load(tmp_path / "model.safetensors")
    assert torch.equal(model(pictures(2, 1, 32))[0], loaded(pictures(2, 1, 32))[0])


@pytest.mark.parametrize("name", ["small_convnet", "convnext_atto"])
def test_a_stem_that_cannot_be_exchanged_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"^model.backbone.small_image_stem is true, but .*{name}"):
        build_backbone(name, weights="none", channels=1, image_size=32, small_image_stem=True)
    build_backbone(name, weights="none", channels=1, image_size=32, small_image_stem="auto")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet81", "is neither ours nor one of timm's .* models; did you mean .*resnet18.*\\?$"),
        ("small_convnett", "did you mean small_convnet\\b.*\\?$"),
        ("qqqqqqqqqq", "; ours: classifier32, small_convnet\\.$"),
        ("resnet18.no_such_tag", "timm could not build it \\(.*no_such_tag.*\\); model.backbone.weights may"),
    ],
)
def test_an_unknown_backbone_is_told_near_ones(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^model.backbone.name '{name}'.*{sentence}"):
        build_backbone(name, weights="none", channels=1, image_size=32)


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        ("small_convnet", 1, "'small_convnet' cannot take 1 x 1 images of 1 channels .*; try a larger"),
        ("convnext_atto", 16, "'convnext_atto' cannot take 16 x 16 images of 1 channels .*; try a larger"),
        (
            "vit_tiny_patch16_224",
            40,
            "model.image_size is 40, but must be a multiple of 16, the patches of .*vit_tiny",
        ),
        (
            "vit_small_patch14_dinov2",
            32,
            "model.image_size is 32, but must be a multiple of 14, the patches of .*dinov2",
        ),
    ],
)
def test_images_a_backbone_cannot_take(name: str, size: int, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        feature_width(
            build_backbone(name, weights="none", channels=1, image_size=size),
            name=name,
            channels=1,
            image_size=size,
        )


def test_a_backbone_must_return_vectors() -> None:
    shape = {"name": "mine", "channels": 1, "image_size": 4}
    with pytest.raises(InputError, match="'mine' does not return one feature vector per image"):
        feature_width(nn.Identity(), **shape)
