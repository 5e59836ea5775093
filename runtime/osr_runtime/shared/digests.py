"""Digests of files and of what they hold: equal digests, equal things."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest_of(content: Any, *buffers: Any) -> str:
    """16 hex digits over JSON content and the bytes of arrays: equal digests, equal things."""
    found = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for buffer in buffers:
        found.update(buffer)
    return found.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """16 hex digits over all bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def code_digest() -> str:
    """16 hex digits over the sources of this library: what another line of code makes is another thing."""
    found = hashlib.sha256()
    for source in sorted(Path(__file__).parents[1].rglob("*.py")):
        found.update(source.read_bytes())
    return found.hexdigest()[:16]
