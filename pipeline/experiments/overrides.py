"""Settings written as `key=value`, the way `dvc exp run -S` takes them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from osr.errors import InputError
from osr.params import check_params
from osr.settings.reading import parse_yaml, read_yaml
from osr.settings.sentences import shown
from pipeline.workspace.stages import PARAMS

_KEY = r"[\w.\-]+"
_ASSIGNMENT = re.compile(rf"\+{{0,2}}(?P<key>{_KEY})=(?P<value>.*)", re.DOTALL)
_DELETION = re.compile(rf"~{_KEY}")
NAMES_IN_QUOTES = """names with other letters than a to z stand in quotes: -S 'split.unknown=["größe 28"]'."""
SIGNS_IN_QUOTES = r"""a text with such signs stands in quotes: -S 'dataset.group_pattern="patient(\d+)"'."""
_SIGNS = re.compile(r"[()\\^$|?*+]")
# Blanks separate overrides only where the next one starts, so that `[0, 1]` and quoted text stay whole.
_BETWEEN_OVERRIDES = re.compile(rf"\s+(?=\+{{0,2}}{_KEY}=|~{_KEY})")


def split_overrides(text: str) -> list[str]:
    """DVC-style overrides (`a.b=1 c=[0, 1] +new.key=2 ~old.key`) as a list.

    Raises:
        InputError: a part is neither an assignment nor a deletion.
    """
    parts = [part for part in _BETWEEN_OVERRIDES.split(text.strip()) if part]
    for part in parts:
        if not (_ASSIGNMENT.fullmatch(part) or _DELETION.fullmatch(part)):
            raise InputError(f"overrides: {part!r} must look like key=value, +key=value or ~key.")
    return parts


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Texts `key=value` as sections; as `flat_overrides` otherwise."""
    return nested(flat_overrides(texts))


def flat_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Texts `key=value` by key, with values as params.yaml holds them; of equal keys the last counts.

    Raises:
        InputError: a text is no assignment, or its value no YAML.
    """
    parsed = {}
    for text in texts:
        assignment = _ASSIGNMENT.fullmatch(text.strip())
        if assignment is None:
            raise InputError(f"The override {text!r} must look like key=value.")
        try:
            parsed[assignment["key"]] = parse_yaml(assignment["value"])
        except ValueError as error:
            raise InputError(f"The override {shown(text)}: its value {error}.") from None
    return parsed


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as sections."""
    sections: dict[str, Any] = {}
    for key, value in flat.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        sections = merge(sections, value)
    return sections


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`: sections are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        held = merged.get(key)
        if isinstance(held, Mapping) and isinstance(value, Mapping):
            value = merge(held, value)
        merged[key] = value
    return merged


def overridden(texts: Sequence[str], changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All settings with something else in them, after a look for what DVC or the first stage would refuse.

    Args:
        texts: what differs from params.yaml, as `dvc exp run -S` takes it; read by DVC's own parser.
        changes: settings, nested, that go into it before these.

    Raises:
        InputError: one sentence per broken rule of the settings, or DVC's words on a text it cannot read.
    """
    ours = read_yaml(PARAMS)
    if not isinstance(ours, dict):
        check_params(ours, source=str(PARAMS))
    begun = merge(ours, changes or {})
    if not texts:
        check_params(begun, source=f"{PARAMS} with other settings" if changes else str(PARAMS))
        return begun
    from dvc.exceptions import InvalidArgumentError  # with the next, a second that others need not wait
    from dvc.utils.hydra import apply_overrides

    source = f"{PARAMS} with overrides"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PARAMS.name
        with copy.open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(begun, file)
        try:
            apply_overrides(str(copy), [_added(text, begun) for text in texts])
        except InvalidArgumentError as error:
            assigned = [text for text in texts if not text.startswith("~")]
            check_params(merge(begun, parse_overrides(assigned)), source=source)  # it names the right keys
            reason = str(error.__cause__ or error).partition("\n")[0]
            hint = "" if all(map(str.isascii, texts)) else f"; {NAMES_IN_QUOTES}"
            if not hint and any(_SIGNS.search(text.partition("=")[2]) for text in texts):
                hint = f"; {SIGNS_IN_QUOTES}"
            raise InputError(f"overrides: DVC cannot read {' '.join(texts)!r}: {reason}{hint}") from error
        settings: dict[str, Any] = read_yaml(copy)
    check_params(settings, source=source)
    return settings


def _added(text: str, settings: Mapping[str, Any]) -> str:
    """With a plus where the key is not there yet, as DVC wants it of `model.backbone.options.width=8`.

    Whether there may be such a key is for the settings to say, which are checked afterwards.
    """
    assignment = _ASSIGNMENT.fullmatch(text)
    if assignment is None or text.startswith("+"):
        return text
    held: Any = settings
    for part in assignment["key"].split("."):
        if not isinstance(held, Mapping) or part not in held:
            return f"+{text}"
        held = held[part]
    return text
