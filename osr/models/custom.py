"""Your own backbone class, named `module:Class` in params.yaml."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from osr.errors import InputError


def is_custom(name: str) -> bool:
    """Whether a backbone's name means a class of the user's."""
    return ":" in name


def build_custom(name: str, *, channels: int, image_size: int, options: Mapping[str, Any]) -> nn.Module:
    """`Class(channels=…, image_size=…, **options)` of `module:Class`.

    Args:
        name: the module is imported as `import module` would from the folder the stage runs in.
        channels: of the images the network is to take.
        image_size: their height and width.
        options: `model.backbone.options` of params.yaml.

    Raises:
        InputError: no such module or class, no torch module, or one that does not take these arguments.
    """
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"model.backbone.name {name!r}: the module {module_name!r} cannot be imported ({error})."
        ) from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        networks = [key for key, value in vars(module).items() if isinstance(value, type)]
        guesses = difflib.get_close_matches(class_name, networks, n=1)
        hint = f"; did you mean {module_name}:{guesses[0]}?" if guesses else "."
        raise InputError(
            f"model.backbone.name {name!r}: {module_name!r} has no torch module class {class_name!r}{hint}"
        )
    try:
        return found(channels=channels, image_size=image_size, **options)
    except TypeError as error:
        raise InputError(
            f"model.backbone.name {name!r} must be a class that takes channels, image_size and the keys of "
            f"model.backbone.options ({error})."
        ) from error


def source_of(name: str) -> bytes:
    """The file that a custom backbone stands in; nothing for other backbones or a module without a file."""
    if not is_custom(name):
        return b""
    try:
        specification = importlib.util.find_spec(name.partition(":")[0])
    except (ImportError, ValueError):  # build_custom says what is wrong
        return b""
    if specification is None or specification.origin is None or not specification.has_location:
        return b""
    return Path(specification.origin).read_bytes()
