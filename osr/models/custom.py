"""Your own backbone class, named `module:Class` in params.yaml."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from osr.errors import InputError

TORCHVISION = "torchvision.models"  # of its networks the name means the function that makes them


def is_custom(name: str) -> bool:
    """Whether a backbone's name means a class of the user's."""
    return ":" in name


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
    _check_bound(name)
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
    shape = {"channels": channels, "image_size": image_size}
    try:
        return found(**_taken(found, shape), **options)
    except TypeError as error:
        raise InputError(
            f"model.backbone.name {name!r} must be a class that takes the keys of model.backbone.options, "
            f"and nothing else but channels and image_size ({error})."
        ) from error


def _taken(found: type[nn.Module], shape: Mapping[str, int]) -> dict[str, int]:
    """Those of the arguments that the class names, or all if it takes any."""
    parameters = inspect.signature(found).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(shape)
    return {name: value for name, value in shape.items() if name in parameters}


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


def source_of(name: str) -> bytes:
    """The file that a custom backbone stands in; nothing for other backbones or a module without a file."""
    if not is_custom(name):
        return b""
    file = _file_of(name.partition(":")[0])
    return b"" if file is None else file.read_bytes()


def _file_of(module_name: str) -> Path | None:
    """Where a module would be imported from, found without importing it or its packages."""
    package, *parts = module_name.split(".")
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # importing says what is wrong
        return None
    for part in parts:
        folders = None if found is None else found.submodule_search_locations
        found = None if folders is None else importlib.machinery.PathFinder.find_spec(part, folders)
    if found is None or found.origin is None or not found.has_location:
        return None
    return Path(found.origin)


def _check_bound(name: str) -> None:
    """Refuse a module whose source never binds the class, before importing runs it."""
    module_name, _, class_name = name.partition(":")
    file = _file_of(module_name)
    if file is None or file.suffix != ".py":
        return  # importing says what is wrong, or finds a module without source
    try:
        names = _bound(ast.parse(file.read_bytes()))
    except (SyntaxError, ValueError):
        return
    if not names & {class_name, "*", "__getattr__"}:
        guesses = difflib.get_close_matches(class_name, names, n=1)
        hint = f"; did you mean {module_name}:{guesses[0]}?" if guesses else "."
        raise InputError(
            f"model.backbone.name {name!r}: {module_name!r} has no torch module class {class_name!r}{hint}"
        )


def _bound(tree: ast.Module) -> set[str]:
    """Every name that the source binds anywhere; `*` where it imports names it does not say."""
    names = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=bound) | ast.FunctionDef(name=bound):
                names.add(bound)
            case ast.Name(id=bound, ctx=ast.Store()):
                names.add(bound)
            case ast.alias(name=imported, asname=bound):
                names.add(bound or imported.partition(".")[0])
    return names
