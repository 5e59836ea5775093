"""Your own backbone class, named `module:Class` in params.yaml."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from torch import nn

from osr.errors import InputError
from osr.settings.own_code import own_class, taken

TORCHVISION = "torchvision.models"  # of its networks the name means the function that makes them


def build_custom(name: str, *, channels: int, image_size: int, options: Mapping[str, Any]) -> nn.Module:
    """`Class(channels=…, image_size=…, **options)` of `module:Class`; the first two if it takes them.

    Args:
        name: the module is imported as `import module` would from the folder the stage runs in.
        channels: of the images the network is to take.
        image_size: their height and width.
        options: `model.backbone.options` of params.yaml.

    Raises:
        InputError: no such module or class, no torch module, or one that does not take these arguments.
    """
    module_name, _, class_name = name.partition(":")
    if module_name == TORCHVISION:
        return _torchvision_network(class_name, options)
    found = own_class(name, nn.Module, key="model.backbone.name", kind="torch module class")
    try:
        return found(**taken(found, {"channels": channels, "image_size": image_size}), **options)
    except TypeError as error:
        raise InputError(
            f"model.backbone.name {name!r} must be a class that takes the keys of model.backbone.options, "
            f"and nothing else but channels and image_size ({error})."
        ) from error


def _torchvision_network(name: str, options: Mapping[str, Any]) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        guesses = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {TORCHVISION}:{guesses[0]}?" if guesses else "."
        raise InputError(f"model.backbone.name: torchvision has no classifier {name!r}{hint}")
    try:
        network: nn.Module = models.get_model(name, **options)
    except TypeError as error:
        raise InputError(f"model.backbone.options do not fit {TORCHVISION}:{name} ({error}).") from error
    return network
