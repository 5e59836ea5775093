"""Networks that somebody trained: the classifier they end in, which becomes the head of an open-set model."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from osr.errors import InputError
from osr.models.custom import build_custom
from osr.models.hub import published_weights
from osr.models.open_set_model import OpenSetModel
from osr.models.parts import last_linear
from osr.models.settings import BackboneSettings
from osr.models.weight_files import description_of, load_weights
from osr.settings.own_code import is_custom
from osr.stored.origin import Origin


def give_head(model: OpenSetModel) -> None:
    """Put the classifier of the network's own weights into the head of `model`.

    Args:
        model: with an identity neck and a linear head with a bias, its backbone of these weights.

    Raises:
        InputError: the network has no linear classifier, or one of another width or number of classes.
    """
    settings, form = model.settings.backbone, model.image_format
    layer = _classifier(settings, len(model.class_names), form.channels, form.size)
    if layer.out_features != len(model.class_names):
        names = ", ".join(model.class_names)
        raise InputError(
            f"train.regime is 'none': {settings.name} tells {layer.out_features} classes apart, but must "
            f"tell the {len(model.class_names)} known ones, in this order: {names}; split.known names them."
        )
    if layer.weight.shape != model.head.weight.shape:
        raise InputError(
            f"train.regime is 'none': the classifier of {settings.name} reads {layer.in_features} numbers, "
            f"but its features are {model.head.weight.shape[1]}."
        )
    with torch.no_grad():
        model.head.weight.copy_(layer.weight * model.head.settings.temperature)
        if model.head.bias is not None:
            bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
            model.head.bias.copy_(bias * model.head.settings.temperature)


def given_model(
    path: Path, class_names: tuple[str, ...], made_from: Origin, name: str
) -> OpenSetModel | None:
    """The product's own model of an earlier training, whole; None for a file from elsewhere.

    Args:
        path: `model.backbone.weights`.
        class_names: of the known classes.
        made_from: the split that the new run judges it with.
        name: `model.backbone.name`.

    Raises:
        InputError: it is of other classes or another backbone.
    """
    if description_of(path) is None:
        return None
    model = OpenSetModel.load(path, allow_code=name)
    if model.settings.backbone.name != name:
        raise InputError(
            f"model.backbone.name is {name!r}, but must be {model.settings.backbone.name!r}, "
            f"the network of {path}."
        )
    if model.class_names != class_names:
        raise InputError(
            f"{path} knows {', '.join(model.class_names)}, but the known classes are "
            f"{', '.join(class_names)}: train.regime none wants the same, in the same order, which "
            "split.known can name."
        )
    model.made_from, model.digest = made_from, None
    return model


def _classifier(settings: BackboneSettings, num_classes: int, channels: int, image_size: int) -> nn.Linear:
    """The linear layer at the end of the network that the settings name, with its trained weights."""
    file = None if settings.weights in ("none", "pretrained") else Path(settings.weights)
    if is_custom(settings.name):
        options = settings.options
        network = build_custom(settings.name, channels=channels, image_size=image_size, options=options)
        if file:
            load_weights(network, file, settings.name)
        return last_linear(network, settings.name, settings.classifier)[1]
    import timm

    pretrained = timm.get_pretrained_cfg(settings.name)
    if file is None:
        num_classes = pretrained.num_classes
    arguments = {"pretrained": file is None, "num_classes": num_classes, "in_chans": channels}
    with nullcontext() if file else published_weights():
        network = timm.create_model(settings.name, **arguments)
    if file:
        load_weights(network, file, f"{settings.name} with {num_classes} classes")
    layer = network.get_classifier()
    if not isinstance(layer, nn.Linear):
        raise InputError(f"train.regime is 'none', but {settings.name} does not end in a linear layer.")
    return layer
