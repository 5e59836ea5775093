"""JSON files of the stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from osr.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that an earlier stage wrote.

    Raises:
        InputError: the file is missing.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro` to make it.")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, whole or not at all; NaN becomes null, which JSON has instead."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    text = json.dumps(_without_nan(content), indent=2, sort_keys=True, allow_nan=False)
    aside.write_text(text + "\n", encoding="utf-8")
    aside.replace(path)


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and content != content else content
