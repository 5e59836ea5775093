"""Backbones by name, the open-set model around them, its file, and what stands before it."""

import os
import pickle
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load_file, save_file
from tampering import rewrite
from torch import Tensor, nn

from osr.errors import InputError
from osr.models.backbones import build_backbone, feature_width
from osr.models.heads import HEADS
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat, Preprocess, format_for
from osr.models.settings import BackboneSettings, HeadSettings, ImageSettings, ModelSettings, NeckSettings
from osr.settings.own_code import source_of

AUTO = {"mean": (), "std": (), "interpolation": "auto", "crop_fraction": "auto"}
NAMES = ("cat", "dog", "frog")
GREY = ImageFormat(8, 1, (0.25,), (0.5,))
BACKBONES = [  # name, channels, image size, features
    ("small_convnet", 1, 8, 128),
    ("small_convnet", 3, 32, 128),
    ("classifier32", 3, 32, 128),
    ("resnet18", 1, 32, 512),
    ("efficientnet_b0", 3, 32, 1280),
    ("vit_tiny_patch16_224", 3, 32, 192),
    ("vit_small_patch14_dinov2", 3, 28, 384),
]


def model_settings(
    *,
    backbone: str = "small_convnet",
    weights: str = "none",
    neck: str = "identity",
    bias: bool = True,
    size: int | str = "auto",
    stem: bool | str = "auto",
    head: str = "linear",
    frozen: int | str = "auto",
    image: dict[str, object] | None = None,
    options: dict[str, object] | None = None,
    classifier: str = "none",
    temperature: float = 1.0,
    extra: int = 0,
    rotations: bool = False,
) -> ModelSettings:
    return ModelSettings(
        image_size=size,
        image=ImageSettings(**(AUTO | (image or {}))),
        backbone=BackboneSettings(
            name=backbone,
            weights=weights,
            small_image_stem=stem,
            frozen_stages=frozen,
            classifier=classifier,
            options=options or {},
        ),
        neck=NeckSettings(name=neck, width=16, tau=0.1),
        head=HeadSettings(name=head, bias=bias, scale=7.0, temperature=temperature, extra_classes=extra),
        rotation_head=rotations,
    )


def build(*, image_format: ImageFormat = GREY, seed: int = 0, **changes: object) -> OpenSetModel:
    torch.manual_seed(seed)
    return OpenSetModel(model_settings(**changes), image_format, NAMES)


def pictures(num_images: int, channels: int = 1, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_images, channels, size, size), dtype=torch.uint8, generator=generator)


def unreached(model: nn.Module, loss: Tensor) -> list[str]:
    """Names of the parameters that the gradient of `loss` does not reach."""
    loss.backward()
    return [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]


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
    images = torch.rand(256, 1, 32, 32) + 1
    assert torch.equal(grey.eval()(images), colour.eval()(images.expand(-1, 3, -1, -1)))
    after_dropout: list[torch.Tensor] = []
    grey.layers[0].register_forward_hook(lambda _layer, _inputs, output: after_dropout.append(output))
    grey.train()(images)
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


@pytest.mark.parametrize(
    ("suffix", "wrapper"), [(".safetensors", None), (".pth", None), (".pth", "state_dict"), (".pth", "model")]
)
def test_local_weights_are_those_of_the_file(tmp_path: Path, suffix: str, wrapper: str | None) -> None:
    arguments = {"channels": 1, "image_size": 32}
    torch.manual_seed(1)
    saved = build_backbone("resnet18", weights="none", **arguments).state_dict()
    path, extra = tmp_path / f"weights{suffix}", {"fc.weight": torch.ones(2, 512)}
    if suffix == ".safetensors":
        save_file(saved | extra, path)
    else:
        torch.save(saved | extra if wrapper is None else {wrapper: saved | extra, "epoch": 3}, path)
    torch.manual_seed(2)
    loaded = build_backbone("resnet18", weights=str(path), **arguments).state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)


class Dangerous:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (str(self.path),)


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    small = build_backbone("small_convnet", weights="none", channels=3, image_size=8).state_dict()
    one_missing = {name: small[name] for name in list(small)[1:]}
    trap = tmp_path / "trap"
    files: dict[str, tuple[Callable[[Path], object], str]] = {
        "shape.pth": (
            lambda p: torch.save(small, p),
            "does not fit .*: 0 tensors missing, 1 of another shape, first",
        ),
        "missing.safetensors": (
            lambda p: save_file(one_missing, p),
            ": 1 tensors missing, 0 of another shape, first",
        ),
        "values.pth": (
            lambda p: torch.save(dict.fromkeys(small, 1), p),
            "holds no state dict: no tensor by name",
        ),
        "tensor.pth": (lambda p: torch.save(torch.ones(3), p), "holds no state dict: no tensor by name"),
        "garbage.pth": (lambda p: p.write_bytes(b"garbage" * 99), "cannot be read as weights alone"),
        "garbage.safetensors": (lambda p: p.write_bytes(b"garbage" * 99), "cannot be read as weights alone"),
        "empty.pth": (lambda p: p.write_bytes(b""), "cannot be read as weights alone"),
        "trap.pth": (
            lambda p: p.write_bytes(pickle.dumps(Dangerous(trap), protocol=2)),
            "holds objects of posix.mkdir beside weights, and reading these could run code",
        ),
        "none.pth": (lambda _: None, "no such file; or use none or pretrained"),
    }
    for name, (write, sentence) in files.items():
        path = tmp_path / name
        write(path)
        with pytest.raises(InputError, match=sentence) as error:
            build_backbone(
                "small_convnet", weights=str(path), channels=1 if "missing" not in name else 3, image_size=8
            )
        assert str(path) in str(error.value)
        assert str(error.value).startswith("model.backbone.weights ")
        assert "\n" not in str(error.value)
    assert not trap.exists()


@pytest.mark.parametrize(
    "error", [ConnectionError("no route to host"), FileNotFoundError("not in the cache\nmore")]
)
def test_pretrained_without_network(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("timm.models._hub.hf_hub_download", fail)
    monkeypatch.setattr("osr.models.hub.unreachable", lambda _: "")
    reason = str(error).splitlines()[0]
    with pytest.raises(InputError) as refused:
        build_backbone("resnet18", weights="pretrained", channels=3, image_size=32)
    assert str(refused.value) == (
        f"model.backbone.name 'resnet18': its weights could not be downloaded ({reason}); "
        "model.backbone.weights may also name a local file."
    )


def test_our_own_backbones_have_no_published_weights() -> None:
    with pytest.raises(InputError, match="small_convnet has no published weights; use none or a file"):
        build_backbone("small_convnet", weights="pretrained", channels=1, image_size=8)


class Tiny(nn.Module):
    """A backbone as a user would write it."""

    def __init__(self, channels: int, image_size: int, width: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, width))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def test_a_class_of_the_user_is_a_backbone(tmp_path: Path) -> None:
    model = build(backbone=f"{__name__}:Tiny", options={"width": 7}).eval()
    logits, features = model(pictures(4))
    assert features.shape == (4, 7)
    model.save(tmp_path / "model.safetensors")
    for allowed in (None, "other:Tiny", __name__):
        with pytest.raises(InputError, match=f"needs code .* '{__name__}:Tiny', and importing"):
            OpenSetModel.load(tmp_path / "model.safetensors", allow_code=allowed)
    loaded = OpenSetModel.load(tmp_path / "model.safetensors", allow_code=f"{__name__}:Tiny")
    assert torch.equal(loaded(pictures(4))[0], logits)
    assert format_for(
        model_settings(backbone=f"{__name__}:Tiny", weights="f"), np.ones((2, 8, 8, 1), np.uint8)
    )
    assert source_of(f"{__name__}:Tiny") == Path(__file__).read_bytes()
    for name in ("resnet18", "no_such_module_at_all:Tiny", "no.such:Tiny", "sys:Tiny", ":Tiny"):
        assert source_of(name) == b""


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "no_such_module_at_all:Tiny",
            {},
            "the module 'no_such_module_at_all' cannot be imported (No module",
        ),
        (f"{__name__}:Tinny", {}, f"has no torch module class 'Tinny'; did you mean {__name__}:Tiny?"),
        ("subprocess:Popen", {"args": ["true"]}, "'subprocess' has no torch module class 'Popen'"),
        (":Tiny", {}, "the module '' cannot be imported"),
        (f"{__name__}:Tiny", {"depth": 3}, "must be a class that takes the keys of model.backbone.options"),
        ("resnet18", {"depth": 3}, "is {'depth': 3}, but must be {} for resnet18: only a class of your own"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused(name: str, options: dict, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        build_backbone(name, weights="none", channels=1, image_size=8, options=options)
    assert str(error.value).startswith("model.backbone.")
    assert sentence in str(error.value)


@pytest.mark.parametrize("changes", [{"weights": "pretrained"}, {"small_image_stem": True}])
def test_a_class_of_the_user_has_neither_published_weights_nor_a_stem(changes: dict) -> None:
    arguments = {"weights": "none", "channels": 1, "image_size": 8} | changes
    with pytest.raises(InputError, match=r"has no (published weights|stem)"):
        build_backbone(f"{__name__}:Tiny", **arguments)


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


def test_a_file_rebuilds_the_model(tmp_path: Path) -> None:
    colour = ImageFormat(12, 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    model = build(image_format=colour, neck="linear", bias=False, size=12)
    model(pictures(6, 3, 12))  # moves the batch norm's statistics
    model.eval().save(tmp_path / "model.safetensors")
    torch.manual_seed(7)
    loaded = OpenSetModel.load(tmp_path / "model.safetensors")
    assert not loaded.training
    settings = model_settings(neck="linear", bias=False, size=12, stem=False)  # of auto what it came to
    assert (loaded.settings, loaded.image_format, loaded.class_names) == (settings, colour, NAMES)
    images = pictures(4, 3, 12)
    for mine, theirs in zip(model(images), loaded(images), strict=True):
        assert torch.equal(mine, theirs)


def test_the_file_is_the_same_each_time_and_holds_no_pickle(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in ("first", "again", "rebuilt")]
    model = build(neck="linear").eval()
    model.save(paths[0])
    model.save(paths[1])
    OpenSetModel.load(paths[0]).save(paths[2])
    contents = [path.read_bytes() for path in paths]
    assert contents[0] == contents[1] == contents[2]
    # A JSON header after its length in 8 bytes, then the numbers, and nothing else.
    (header,) = struct.unpack("<Q", contents[0][:8])
    assert contents[0][8 : 8 + header].startswith(b'{"__metadata__":{"osr":')
    num_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert len(contents[0]) == 8 + header + num_bytes
    assert load_file(paths[0]).keys() == model.state_dict().keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)


def test_a_model_from_a_local_file_needs_that_file_no_more(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(
        build_backbone("small_convnet", weights="none", channels=1, image_size=8).state_dict(), weights
    )
    model = build(weights=str(weights)).eval()
    model.save(tmp_path / "model.safetensors")
    weights.unlink()
    loaded = OpenSetModel.load(tmp_path / "model.safetensors")
    assert torch.equal(model(pictures(2))[0], loaded(pictures(2))[0])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d["settings"]["head"].pop("bias"), "the key 'settings.head.bias' is missing"),
        (lambda d: d["settings"]["head"].update(odd=1), "unknown key 'settings.head.odd'"),
        (lambda d: d.pop("image_format"), "the key 'image_format' is missing"),
        (lambda d: d["image_format"].update(std=[0]), r"image_format.std\[0\] is 0, but must be above 0"),
        (lambda d: d["image_format"].update(mean=[0.1, 0.2]), "one number for each of 1 channels"),
        (lambda d: d["image_format"].update(size=1 << 40), "image_format.size is .* at most 8192"),
        (lambda d: d.update(class_names="abc"), "class_names is 'abc', but must be a list"),
        (lambda d: d.update(class_names=["a", "b", "a"]), "each name once, not several times a"),
        (lambda d: d.update(class_names=["a", "b"]), "size mismatch for head"),
    ],
)
def test_a_file_of_another_version(change: Callable[[dict], None], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    build().save(path)
    rewrite(path, change)
    with pytest.raises(InputError, match=rf"model.safetensors .*another version of osr.*{sentence}"):
        OpenSetModel.load(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("head.weight"), "Missing key"),
        (lambda s: s.update(odd=np.ones(2, np.float32)), "Unexpected key"),
        (lambda s: s.update({"head.weight": s["head.weight"][:1]}), "size mismatch for head.weight"),
        (
            lambda s: s.update({"head.weight": s["head.weight"].astype(np.int32)}),
            "weight holds torch.int32, but must",
        ),
        (lambda s: s["head.weight"].fill(np.nan), "head.weight holds values that are not finite"),
    ],
)
def test_weights_of_another_kind(change: Callable[[dict], None], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    build().save(path)
    rewrite(path, change_arrays=change)
    with pytest.raises(InputError, match=rf"model.safetensors .*{sentence}"):
        OpenSetModel.load(path)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match="is missing: run `dvc repro`"):
        OpenSetModel.load(path)
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(InputError, match="was not written by osr"):
        OpenSetModel.load(path)
    build().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="was changed after osr wrote it, or was not written whole"):
        OpenSetModel.load(path)
    for content in (b"garbage" * 99, b"", whole[:50], bytes(8)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is damaged"):
            OpenSetModel.load(path)


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


def test_a_module_is_imported_only_when_its_source_has_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the module would do when it is imported has not been done."""
    monkeypatch.syspath_prepend(str(tmp_path))
    acts = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"
    (tmp_path / "package_of_mine").mkdir()
    (tmp_path / "package_of_mine/__init__.py").write_text(acts)
    for module in ("acting_module", "package_of_mine.acting"):
        file = tmp_path / f"{module.replace('.', '/')}.py"
        file.write_text(f"{acts}class Net: ...\n")
        with pytest.raises(InputError, match=f"'{module}' has no torch module class 'Nett'; did you mean"):
            build_backbone(f"{module}:Nett", weights="none", channels=1, image_size=8)
        assert not list(tmp_path.rglob("*.ran"))
        with pytest.raises(InputError, match=f"'{module}' has no torch module class 'Net'"):
            build_backbone(f"{module}:Net", weights="none", channels=1, image_size=8)  # no nn.Module
        assert file.with_suffix(".ran").exists()
        for ran in tmp_path.rglob("*.ran"):
            ran.unlink()


def test_a_class_may_come_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = {
        "named": f"from {__name__} import Tiny as Net\n",
        "starred": f"from {__name__} import *\nNet = globals().pop('Tiny')\n",
        "made": f"import {__name__} as here\nif True:\n    Net = here.Tiny\n",
        "asked_for": f"def __getattr__(name):\n    import {__name__} as here\n    return here.Tiny\n",
    }
    for name, source in sources.items():
        (tmp_path / f"{name}_of_mine.py").write_text(source)
        arguments = {"weights": "none", "channels": 1, "image_size": 8, "options": {"width": 3}}
        assert isinstance(build_backbone(f"{name}_of_mine:Net", **arguments), Tiny)
