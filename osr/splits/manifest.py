"""manifest.csv: one line per image of a split, in columns that hold a million images."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Text is kept as bytes: four times smaller than numpy's text.
_TYPES = {
    "row": "i8",
    "class_id": "i8",
    "label": "i8",
    "part": "S8",
    "group": "i8",
    "hash": "S16",
}
_HEX = np.full(256, 16, dtype=np.uint8)  # of each byte the value as a digit; 16: it is none
_HEX[list(b"0123456789abcdef")] = range(16)
_PARTS_OF_HASH = np.array([1 << shift for shift in range(60, -1, -4)], dtype=np.uint64)


def write_manifest(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of one length, whose names are among those of `_TYPES`; hashes as 16 hex digits."""
    lists = [
        (f"{number:016x}" for number in column.tolist()) if name == "hash" else column.tolist()
        for name, column in columns.items()
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*lists, strict=True))


def read_manifest(path: Path) -> dict[str, NDArray[Any]]:
    """The columns that `write_manifest` wrote.

    Raises:
        ValueError: a line has other columns, or a number is none.
    """
    with path.open(encoding="ascii") as file:
        names = file.readline().rstrip("\n").split(",")
        if not {"row", "class_id", "label", "part"} <= set(names) <= set(_TYPES):
            raise ValueError(f"its columns are {', '.join(names)}")
        lines = [(name, _TYPES[name]) for name in names]
        table = np.loadtxt(file, dtype=lines, delimiter=",", comments=None, ndmin=1)
    columns = {name: np.ascontiguousarray(table[name]) for name in names}
    if "hash" in columns:
        columns["hash"] = _from_hex(columns["hash"])
    return columns


def _from_hex(digits: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """(N,) uint64 of (N,) text of 16 hex digits."""
    codes = digits.view(np.uint8).reshape(-1, 16)
    values = _HEX[codes]
    if (values > 15).any():
        raise ValueError("a hash is no hexadecimal number")
    numbers: NDArray[np.uint64] = values.astype(np.uint64) @ _PARTS_OF_HASH
    return numbers
