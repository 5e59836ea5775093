"""JSON files of the stages, and the hash that DVC knows a file by."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from osr.stored.files import read_plain_json, without_nan, write_whole


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that an earlier stage wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    return read_plain_json(path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, whole or not at all; NaN becomes null, which JSON has instead."""
    text = json.dumps(without_nan(content), indent=2, sort_keys=True, allow_nan=False)
    write_whole(path, f"{text}\n".encode())


def md5_of(path: Path) -> str:
    """32 hex digits, as in dvc.lock; the file is read in parts."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
