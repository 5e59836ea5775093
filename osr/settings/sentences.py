"""Pydantic's errors as sentences for the author of params.yaml: the key, its value, the rule, the choices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from osr.settings.base import Section
from osr.settings.gone import GONE
from osr.settings.guesses import did_you_mean, dotted, none_of

# What pydantic's error types ask for, in words of this file's readers.
_RULES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    # The one setting with a pattern is dataset.name.
    "string_pattern_mismatch": "module:function of your own code",
    "own_class": "module:Class of your own code",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a section of settings",
    "dict_type": "a section of settings",
    "greater_than": "above {gt:.12g}",
    "greater_than_equal": "at least {ge:.12g}",
    "less_than": "below {lt:.12g}",
    "less_than_equal": "at most {le:.12g}",
}
_MAX_SHOWN, _MAX_LENGTH, _MAX_SENTENCES = 200, 800, 20


def sentences(error: ValidationError, model: type[Section]) -> list[str]:
    """Pydantic's errors as one sentence for each key; it reports every branch of a union on its own."""
    of_key: dict[str, list[dict[str, Any]]] = {}
    for found in error.errors(include_url=False):
        detail: dict[str, Any] = {**found}
        key, detail["section"] = _place(found["loc"], model)
        of_key.setdefault(key, []).append(detail)
    present = [(key, errors) for key, errors in of_key.items() if errors[0]["type"] != "missing"]
    told = [_cut(_sentence(key, errors)) for key, errors in present[:_MAX_SENTENCES]]
    for key, errors in of_key.items():
        # A misspelt key is unknown, and missing under its right name: one mistake, one sentence.
        if errors[0]["type"] == "missing" and not any(f"did you mean {key!r}" in text for text in told):
            told.append(f"the key {key!r} is missing; every setting must be given.")
    rest = len(present) - _MAX_SENTENCES
    return told + ([f"and {rest} more values must be others, too."] if rest > 0 else [])


def _cut(text: str) -> str:
    """A sentence without the middle of a value that is too long to be read."""
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH // 2]} … {text[-_MAX_LENGTH // 3 :]}"


def _sentence(key: str, errors: list[dict[str, Any]]) -> str:
    """The errors of one key as one sentence."""
    first = errors[0]
    match first["type"]:
        case "extra_forbidden" if key in GONE:
            return f"{key} {GONE[key].told}; take it out."
        case "extra_forbidden" | "invalid_key":
            section, _, name = key.rpartition(".")
            known = first["section"].model_fields
            guess = did_you_mean(name, known, section) or f"; known keys here: {', '.join(known)}."
            return f"unknown key {key!r}{guess}"
        case "value_error":
            return f"{first['ctx']['error']}."
    rules = " or ".join(_rule(detail) for detail in errors)
    choices = [
        choice for detail in errors if detail["type"] == "literal_error" for choice in _choices(detail)
    ]
    return none_of(f"{key} is {shown(first['input'])}", str(first["input"]), choices, rules) + "."


def _rule(detail: dict[str, Any]) -> str:
    if detail["type"] == "literal_error":
        choices = _choices(detail)
        return ("one of " if len(choices) > 1 else "") + ", ".join(map(repr, choices))
    rule = _RULES.get(detail["type"], "another value ({msg})")
    return rule.format(msg=detail["msg"], **detail.get("ctx", {}))


def _choices(detail: dict[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", detail["ctx"]["expected"])


def shown(value: Any) -> str:
    """A value as it stands in the file, cut where it is long."""
    match value:
        case None:
            text = "empty"
        case bool():
            text = str(value).lower()
        case tuple():
            text = repr(list(value))
        case _:
            text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _place(location: tuple[int | str, ...], model: type[Section]) -> tuple[str, type[Section]]:
    """The key as its user writes it, and the section it stands in."""
    key, in_list = "", False
    section = model
    for depth, part in enumerate(location):
        if in_list:
            key, in_list = f"{key}[{part}]", False
            continue
        key = dotted(key, str(part))
        field = section.model_fields.get(str(part))
        annotation = field.annotation if field else None
        inner = _inner(annotation)
        if not (isinstance(inner, type) and issubclass(inner, Section) and location[depth + 1 :]):
            # What follows are positions in a list, and pydantic's names for the branches of a union.
            return key + "".join(f"[{i}]" for i in location[depth + 1 :] if isinstance(i, int)), section
        section, in_list = inner, get_origin(annotation) is tuple
    return key, section


def _inner(annotation: Any) -> Any:
    """What a list holds, or else the annotation itself."""
    return get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
