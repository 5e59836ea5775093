"""Code of the user's own, `module:Class`: how settings name it, where it stands, and when it is imported.

Only what the user's own params.yaml or an explicit argument names is imported; see `check_allowed`.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from osr.errors import InputError


class Broken(Exception):  # noqa: N818 (a promise, not a program)
    """A class does not keep what every one of its kind promises; the message says which promise, and how."""


def keep(is_kept: bool, told: str) -> None:
    """Raise `Broken` with what is told, unless a promise is kept."""
    if not is_kept:
        raise Broken(told)


Allowed = str | Collection[str] | None  # each `module:Class` that may be imported
Class = TypeVar("Class")

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def _own(name: str) -> str:
    if not is_name(name):
        raise PydanticCustomError("own_class", "must be module:Class")
    return name


OwnClass = Annotated[str, AfterValidator(_own)]


def is_name(text: str) -> bool:
    """Whether a text can be `module:Class`."""
    return _NAME.fullmatch(text) is not None


def is_custom(name: str) -> bool:
    """Whether the name of a backbone, a detector or a loss means a class of the user's."""
    return ":" in name


def check_allowed(path: Path, name: str, allowed: Allowed) -> None:
    """Refuse to import code that a file asks for and nobody has allowed by its name.

    Raises:
        InputError: the name means a class of somebody's own that is not among those allowed.
    """
    names = (allowed,) if isinstance(allowed, str) else allowed or ()
    if is_custom(name) and name not in names:
        raise InputError(
            f"{path} needs code of somebody's own, {name!r}, and importing it would run it: if you trust who "
            f"wrote it, put {file_name(name)} where you run this and allow it by its name "
            f"(allow_code={name!r}, or osr predict --allow-code {name})."
        )


def own_class(name: str, base: type[Class], *, key: str, kind: str) -> type[Class]:
    """The class that `module:Class` names.

    Args:
        name: the module is imported as `import module` would from the folder the stage runs in.
        base: what it must be a subclass of.
        key: the setting, for the error.
        kind: what such a class is called there.

    Raises:
        InputError: no such module or class, or one of another base.
    """
    module_name, _, class_name = name.partition(":")
    _check_bound(name, key=key, kind=kind)
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError, SyntaxError) as error:
        raise InputError(
            f"{key} {name!r}: the module {module_name!r} cannot be imported ({error})."
        ) from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise _no_such_class(name, classes, key=key, kind=kind)
    return found


def taken(made: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a class or function names, or all if it takes any."""
    parameters = inspect.signature(made).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(values)
    return {name: value for name, value in values.items() if name in parameters}


def source_of(name: str) -> bytes:
    """The file that a class of the user's stands in; nothing for other names or a module without a file."""
    file = source_file(name)
    return b"" if file is None else file.read_bytes()


def source_file(name: str) -> Path | None:
    """Where `module:Class` would be imported from, found without importing it or its packages."""
    if not is_custom(name):
        return None
    package, *parts = name.partition(":")[0].split(".")
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


def file_name(name: str) -> str:
    """The file that the module of `module:Class` is usually in."""
    return f"{name.partition(':')[0].replace('.', '/')}.py"


def _check_bound(name: str, *, key: str, kind: str) -> None:
    """Refuse a module whose source never binds the class, before importing runs it."""
    class_name, file = name.partition(":")[2], source_file(name)
    if file is None or file.suffix != ".py":
        return  # importing says what is wrong, or finds a module without source
    try:
        names = _bound(ast.parse(file.read_bytes()))
    except (SyntaxError, ValueError):
        return
    if not names & {class_name, "*", "__getattr__"}:
        raise _no_such_class(name, names, key=key, kind=kind)


def _no_such_class(name: str, there: Collection[str], *, key: str, kind: str) -> InputError:
    module_name, _, class_name = name.partition(":")
    guesses = difflib.get_close_matches(class_name, there, n=1)
    hint = f"; did you mean {module_name}:{guesses[0]}?" if guesses else "."
    return InputError(f"{key} {name!r}: {module_name!r} has no {kind} {class_name!r}{hint}")


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
