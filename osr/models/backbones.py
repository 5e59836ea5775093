"""Networks from image to features, by name: our own, any of timm's, or a class of the user's."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from osr.errors import InputError, first_line
from osr.models.classifier32 import Classifier32
from osr.models.custom import build_custom
from osr.models.hub import published_weights
from osr.models.parts import without_classifier
from osr.models.small_convnet import SmallConvnet
from osr.models.stems import STEMS, use_small_image_stem
from osr.models.weight_files import description_of, load_weights
from osr.settings.own_code import is_custom

SMALL_IMAGE = 64  # pixels up to which `auto` keeps the first layer from reducing the image


def build_backbone(
    name: str,
    *,
    weights: str,
    channels: int,
    image_size: int,
    small_image_stem: bool | Literal["auto"] = False,
    classifier: str = "none",
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A network from (B, channels, image_size, image_size) float to (B, D) features.

    Args:
        name: a key of `BACKBONES`, a timm model, or `module:Class` (`osr.models.custom`).
        weights: `none` (random), `pretrained` (timm downloads them) or the path of a local state dict.
        channels: of the images; timm adapts pretrained first layers to it.
        image_size: pixels; handed to models whose shape depends on it.
        small_image_stem: the first layer of a timm network keeps the size of the image (`osr.models.stems`).
            `auto` does so for random weights, images of at most `SMALL_IMAGE` pixels and a family that
            allows it; trained weights keep the stem they were trained with. True with pretrained weights
            keeps them in all other layers.
        classifier: of a custom class that is a whole classifier: the linear layer that is left out, see
            `osr.models.parts`.
        options: arguments of a custom class.

    Raises:
        InputError: no such model, weights that do not fit, a model that cannot take images of this size, a
            stem of its family that cannot be exchanged, or options for another than a custom class.
    """
    if options and not is_custom(name):
        raise InputError(
            f"model.backbone.options is {dict(options)}, but must be {{}} for {name}: only a class of your "
            "own takes options."
        )
    if classifier != "none" and not is_custom(name):
        raise InputError(
            f"model.backbone.classifier is {classifier!r}, but must be 'none' for {name}, whose "
            "classifier is known."
        )
    is_pretrained = weights == "pretrained"
    if is_pretrained and (name in BACKBONES or is_custom(name)):
        raise InputError(f"model.backbone.weights: {name} has no published weights; use none or a file.")
    if name in BACKBONES:
        backbone = BACKBONES[name](channels)
    elif is_custom(name):
        backbone = build_custom(name, channels=channels, image_size=image_size, options=options or {})
    else:
        backbone = _timm_backbone(name, pretrained=is_pretrained, channels=channels, image_size=image_size)
    file = None if weights in ("none", "pretrained") else Path(weights)
    ours = None if file is None else description_of(file)
    if ours and small_image_stem == "auto":
        small_image_stem = ours["settings"]["backbone"]["small_image_stem"] is True
    _set_stem(backbone, name, small_image_stem, is_small=weights == "none" and image_size <= SMALL_IMAGE)
    if classifier != "none" and ours:  # its backbone stands there without the classifier
        backbone = without_classifier(backbone, name, classifier)
    if file:
        load_weights(backbone, file, name)
    if classifier != "none" and not ours:
        backbone = without_classifier(backbone, name, classifier)
    return backbone


def feature_width(backbone: nn.Module, *, name: str, channels: int, image_size: int) -> int:
    """D, measured with one empty image: timm's `num_features` is not the width of the output for every model.

    Raises:
        InputError: the model cannot take such an image or does not return one vector per image.
    """
    was_training = backbone.training
    backbone.eval()
    image = torch.zeros(1, channels, image_size, image_size)
    try:
        with torch.no_grad():
            features = backbone(image)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InputError(
            f"model.backbone.name {name!r} cannot take {image_size} x {image_size} images of {channels} "
            f"channels ({first_line(error)}); try a larger model.image_size."
        ) from error
    finally:
        backbone.train(was_training)
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise InputError(f"model.backbone.name {name!r} does not return one feature vector per image.")
    return features.shape[1]


def _timm_backbone(name: str, *, pretrained: bool, channels: int, image_size: int) -> nn.Module:
    import timm

    if not timm.is_model(name.split(".")[0]):
        choices = [*BACKBONES, *timm.list_models()]
        guesses = difflib.get_close_matches(name, choices, n=3)
        hint = f"did you mean {', '.join(guesses)}?" if guesses else f"ours: {', '.join(BACKBONES)}."
        raise InputError(
            f"model.backbone.name {name!r} is neither ours nor one of timm's {len(choices)} models; {hint}"
        )
    arguments = {"pretrained": pretrained, "num_classes": 0, "in_chans": channels}
    try:
        with published_weights() if pretrained else nullcontext():
            try:
                model: nn.Module = timm.create_model(name, img_size=image_size, **arguments)
            except TypeError:  # convolutional models take images of any size and have no such argument
                model = timm.create_model(name, **arguments)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        what = "its weights could not be downloaded" if pretrained else "timm could not build it"
        raise InputError(
            f"model.backbone.name {name!r}: {what} ({first_line(error)}); "
            "model.backbone.weights may also name a local file (`osr run -S model.backbone.weights=FILE`)."
        ) from error
    _check_classifier(model, name)
    _check_patches(model, name, image_size)
    return model


def _set_stem(backbone: nn.Module, name: str, wanted: bool | Literal["auto"], *, is_small: bool) -> None:
    """Exchange a timm network's stem if it is wanted, or for `auto` if the images are small.

    The network remembers in `has_small_stem` whether it was, for its file.
    """
    backbone.has_small_stem = False  # type: ignore[assignment]
    if wanted is False or (wanted == "auto" and not is_small):
        return
    has_stem = name not in BACKBONES and not is_custom(name) and use_small_image_stem(backbone)
    if wanted is True and not has_stem:
        raise InputError(
            f"model.backbone.small_image_stem is true, but model.backbone.name {name!r} has no stem that can "
            f"be exchanged; timm's networks with {', '.join(STEMS)} have."
        )
    backbone.has_small_stem = has_stem  # type: ignore[assignment]


def _check_classifier(model: Any, name: str) -> None:
    """Refuse networks that end in several classifiers: no single vector stands before one linear layer."""
    try:
        classifier = model.get_classifier()
    except AttributeError:  # that of efficientvit_msra looks inside the one that was left out
        return
    if isinstance(classifier, tuple | list | nn.ModuleList) or hasattr(classifier, "head_dist"):
        raise InputError(
            f"model.backbone.name {name!r} has several classifiers (of branches or for distillation), not "
            "one linear layer on one feature vector; use another model of its family."
        )


def _check_patches(model: nn.Module, name: str, image_size: int) -> None:
    """Refuse images whose last rows and columns would fill no patch: timm drops them in silence."""
    from timm.layers import PatchEmbed

    for layer in model.modules():
        if isinstance(layer, PatchEmbed) and not layer.dynamic_img_pad and image_size % layer.patch_size[0]:
            raise InputError(
                f"model.image_size is {image_size}, but must be a multiple of {layer.patch_size[0]}, "
                f"the patches of model.backbone.name {name!r}."
            )


BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "classifier32": Classifier32,
    "small_convnet": SmallConvnet,
}
