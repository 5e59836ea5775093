"""The bytes of a file where a path may stand: images that come from tables and requests lie in no folder."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True)
class FileBytes:
    """A file that is in memory alone; it has what the reader of images asks of a path.

    Args:
        name: what errors call it.
        content: its bytes.
    """

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name

    def open(self, _mode: str = "rb") -> io.BytesIO:
        """As `Path.open`."""
        return io.BytesIO(self.content)

    def read_bytes(self) -> bytes:
        """As `Path.read_bytes`."""
        return self.content


File: TypeAlias = Path | FileBytes
