"""What the arrays of an .npz need in memory, by their headers: some megabytes may unpack to gigabytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import psutil

from osr.errors import InputError

_GIB = 2**30
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def check_sizes(path: Path, packed: ZipFile, names: Sequence[str]) -> None:
    """Refuse arrays that memory cannot hold, before any is unpacked.

    Args:
        path: of the .npz.
        packed: the same, open.
        names: of the arrays that are to be read.

    Raises:
        InputError: they need more memory than is free.
        ValueError: a header that does not go with what follows it.
    """
    needed, free = sum(_bytes_of(packed, name) for name in names), psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"dataset.arrays.file: {path} unpacks to {needed / _GIB:.1f} GiB, but {free / _GIB:.1f} GiB of "
            "memory are free; save the images as files and use dataset.name: csv or folder."
        )


def _bytes_of(packed: ZipFile, name: str) -> int:
    held = packed.NameToInfo
    info = held.get(f"{name}.npy") or held[name]
    with packed.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"{name} has a header of version {version}")
        shape, _, dtype = _HEADERS[version](member)
        content = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and content != info.file_size - member.tell():
            raise ValueError(f"the header of {name} speaks of {content:,} bytes, but others follow")
    return content
