"""Which runs `--where` keeps; values are written as `-S` takes them, which is how --missing prints them."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Sequence
from typing import Any

from osr.errors import InputError
from osr.settings.guesses import did_you_mean
from osr.settings.reading import parse_yaml
from pipeline.experiments.preset import override_text
from pipeline.tracking.results import Result


def select(results: Sequence[Result], conditions: Iterable[str]) -> list[Result]:
    """The results that meet every condition `key=value`; a key is a param, a digest or the commit.

    Raises:
        InputError: a condition of another form, or one that leaves none of the results.
    """
    selected = list(results)
    for condition in conditions:
        before, selected = selected, matching(selected, [condition])
        if before and not selected:
            key = condition.partition("=")[0]
            held = {override(result.params[key]) for result in before if key in result.params}
            keys = {key for result in results for key in result.params}
            none = f"no run has this parameter{did_you_mean(key, keys) or '.'}"
            there = f"there are: {', '.join(sorted(held))}." if held else none
            raise InputError(f"--where {condition}: no run is left; {there}")
    return selected


def matching(results: Sequence[Result], conditions: Iterable[str]) -> list[Result]:
    """As `select`, but none may be left.

    Raises:
        InputError: a condition of another form.
    """
    selected = list(results)
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if not equals:
            raise InputError(f"--where {condition}: must look like train.lr=0.003.")
        selected = [result for result in selected if _agrees(result.params.get(key), value)]
    return selected


def override(text: str) -> str:
    """A param of MLflow, which is Python's text, as DVC reads overrides; parts that are None are left out."""
    value = value_of_text(text)
    # A number stays as it was written; a text that merely looks like one cannot be told apart.
    return override_text(given(value)) if isinstance(value, str | list | bool | None) else text


def value_of_text(text: str) -> Any:
    """A param of MLflow as the value that it was, or as text where it is none of Python's."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return text if isinstance(value, str) else value


def given(value: Any) -> Any:
    """Without the entries of unknown sources that stand for "as in the data set"."""
    if isinstance(value, list):
        return [given(part) for part in value]
    if isinstance(value, dict):
        parts = {key: given(part) for key, part in value.items() if part is not None}
        return {key: part for key, part in parts.items() if part != {}}
    return value


def _agrees(held: str | None, wanted: str) -> bool:
    """Whether a param is what the user wrote: the same text or number (0.003, 3e-3), or as `-S` takes it."""
    if held is None or wanted in (held, override(held)):
        return held is not None
    try:
        return math.isclose(float(held), float(wanted), rel_tol=1e-12)
    except ValueError:
        return _is_yaml_of(value_of_text(held), wanted)


def _is_yaml_of(value: Any, text: str) -> bool:
    try:
        return _plain(value) == _plain(parse_yaml(text))
    except ValueError:
        return False


def _plain(value: Any) -> str:
    """A value as text, equal for equal ones: 1 is 1.0, and true is not 1."""
    match given(value):
        case list(parts):
            return f"[{','.join(map(_plain, parts))}]"
        case dict(parts):
            return f"{{{','.join(sorted(f'{key}:{_plain(part)}' for key, part in parts.items()))}}}"
        case float(number) if number.is_integer():
            return repr(int(number))
    return repr(value)
