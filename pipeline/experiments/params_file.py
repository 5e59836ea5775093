"""Writes settings into params.yaml, whose comments and lists stay as they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from osr.params import flatten
from osr.settings.reading import read_yaml
from pipeline.workspace.stages import PARAMS


def apply(changes: Mapping[str, Any], path: Path = PARAMS, *, without: Iterable[str] = ()) -> list[str]:
    """Write settings; return one line per key whose value changed.

    Args:
        changes: nested like params.yaml.
        path: of the file, which is replaced as a whole.
        without: dotted keys that are taken out.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    content = yaml.load(path.read_text(encoding="utf-8"))
    before = flatten(read_yaml(path))
    lines = []
    for key, value in flatten(dict(changes)).items():
        if key not in before or before[key] != value:
            section, last = _place(content, key)
            lines.append(f"{key}: {_shown(before, key)} -> {json.dumps(value, ensure_ascii=False)}")
            section[last] = _flow(value) if isinstance(value, list) else value
    for key in without:
        section, last = _place(content, key)
        lines.append(f"{key}: {_shown(before, key)} -> not there")
        del section[last]
    aside = path.with_suffix(".part")
    with aside.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    aside.replace(path)
    return lines


def rewrite(settings: Mapping[str, Any]) -> list[str]:
    """Make params.yaml hold these settings and no other, by touching the lines that differ.

    Args:
        settings: all of them, nested.
    """
    wanted = flatten(dict(settings))
    return apply(settings, without=[key for key in flatten(read_yaml(PARAMS)) if key not in wanted])


def _place(content: Any, key: str) -> tuple[Any, str]:
    *sections, last = key.split(".")
    for name in sections:
        content = content.setdefault(name, {})
    return content, last


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key], ensure_ascii=False) if key in settings else "not there"


def _flow(values: list[Any]) -> CommentedSeq:
    """A list that is written in one line."""
    sequence = CommentedSeq(values)
    sequence.fa.set_flow_style()
    return sequence
