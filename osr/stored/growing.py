"""Arrays that are written row by row, in memory or straight to the disk, where a killed writer's go on."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from osr.stored.digests import digest_of
from osr.stored.files import write_whole

PROGRESS = "progress.txt"  # the digest of the plan, and how many rows are whole
Array = NDArray[Any]


class Form(NamedTuple):
    """An array that is to grow: its numbers, and its shape once it is whole, rows first."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class InMemory:
    """Arrays that hold their first `done` rows.

    Args:
        forms: of the arrays, by name; all have as many rows.
    """

    def __init__(self, forms: Mapping[str, Form]) -> None:
        self.arrays: dict[str, Array] = {
            name: np.empty(form.shape, form.dtype) for name, form in forms.items()
        }
        self.done = 0

    def add(self, **parts: Array) -> None:
        """The next rows of each array."""
        first = self.done
        for name, part in parts.items():
            self.done = first + len(part)
            self.arrays[name][first : self.done] = part

    def finished(self) -> dict[str, Array]:
        """The arrays, when all rows are there."""
        return self.arrays


class OnDisk:
    """The same in a folder, a .npy file per array; a call with the same plan goes on at the last whole chunk.

    Args:
        folder: of the files, which belong to this alone; what another plan left there goes.
        forms: of the arrays, by name; all have as many rows.
        plan: JSON content that says what the rows will be.
        chunk: rows after which all that was added is known to be whole; `done` is a multiple of it at first.
    """

    def __init__(self, folder: Path, forms: Mapping[str, Form], *, plan: Any, chunk: int) -> None:
        self.folder, self.chunk = folder, chunk
        described = {name: [form.dtype.str, list(form.shape)] for name, form in forms.items()}
        self.plan = digest_of([plan, described])
        self.heads = {name: _head(form) for name, form in forms.items()}
        self.row_bytes = {
            name: form.dtype.itemsize * int(np.prod(form.shape[1:])) for name, form in forms.items()
        }
        self.done = self.noted = self._earlier()
        folder.mkdir(parents=True, exist_ok=True)
        for name, head in self.heads.items():
            if not self.done:  # a new file: the old one may be linked from elsewhere
                self._path(name).unlink(missing_ok=True)
                self._path(name).write_bytes(head)
        whole = {form.shape[0] for form in forms.values()} == {self.done}
        self.files = {} if whole else {name: self._path(name).open("r+b") for name in forms}
        for name, file in self.files.items():
            file.truncate(len(self.heads[name]) + self.done * self.row_bytes[name])
            file.seek(0, io.SEEK_END)

    def add(self, **parts: Array) -> None:
        """The next rows of each array."""
        first = self.done
        for name, part in parts.items():
            self.done = first + len(part)
            self.files[name].write(np.ascontiguousarray(part).data)
        if self.done - self.noted >= self.chunk:
            self._note()

    def finished(self) -> dict[str, Array]:
        """The arrays, mapped from their files, when all rows are there."""
        self._note()
        for file in self.files.values():
            file.close()
        return {name: np.load(self._path(name), mmap_mode="r", allow_pickle=False) for name in self.heads}

    def _note(self) -> None:
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())  # the rows first, and then that they are there
        self.noted = self.done
        write_whole(self.folder / PROGRESS, f"{self.plan} {self.done}\n".encode())

    def _earlier(self) -> int:
        """Rows that an earlier call with this plan has left whole; 0 where what it left is not."""
        noted = self.folder / PROGRESS
        found = re.fullmatch(rb"([0-9a-f]{16}) ([0-9]+)\n", noted.read_bytes()) if noted.is_file() else None
        if found is None or found[1].decode() != self.plan:
            return 0
        done = int(found[2])
        rows = {name: self._path(name) for name in self.heads}
        are_there = all(
            path.is_file() and path.stat().st_size >= len(self.heads[name]) + done * self.row_bytes[name]
            for name, path in rows.items()
        )
        return done if are_there else 0

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


def grown_in(folder: Path | None, forms: Mapping[str, Form], *, plan: Any, chunk: int) -> InMemory | OnDisk:
    """`OnDisk` in a folder, or `InMemory` where there is none."""
    return InMemory(forms) if folder is None else OnDisk(folder, forms, plan=plan, chunk=chunk)


def write_rows(path: Path, form: Form, parts: Iterable[Array]) -> Array:
    """Write an array of which only some rows are in memory at once; returns it, mapped from its file."""
    path.unlink(missing_ok=True)  # a new file: the old one may be linked from elsewhere
    with path.open("wb") as file:
        file.write(_head(form))
        for part in parts:
            file.write(np.ascontiguousarray(part, form.dtype).data)
    mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _head(form: Form) -> bytes:
    """What stands in a .npy file before the numbers."""
    file = io.BytesIO()
    described = {"descr": form.dtype.str, "fortran_order": False, "shape": form.shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()
