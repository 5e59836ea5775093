"""What `osr predict` is given: files, folders, patterns, a list on standard input, Parquet files."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from osr.data.walking import PassedOver, images_of
from osr.errors import InputError
from osr.inference.streams import Source

STANDARD_INPUT = "-"
COLUMNS = ("image", "bytes", "path", "file")
_ROWS = 256  # of a Parquet file in memory at once


class Sources(NamedTuple):
    """Images to judge.

    Args:
        items: yields them; taken as they are needed.
        total: how many, where that can be known before.
        passed: what lies in the folders beside them.
    """

    items: Iterator[Source]
    total: int | None
    passed: PassedOver


def open_sources(given: Sequence[str], *, column: str | None = None) -> Sources:
    """Check what is given, and count it; nothing is read yet.

    Args:
        given: paths of images, folders or Parquet files, patterns such as `photos/**/*.jpg`, or `-` for paths
            on standard input, one a line.
        column: of the Parquet files; None means the first of `COLUMNS` that there is.

    Raises:
        InputError: nothing there, a folder without images, or a Parquet file without such a column.
    """
    passed = PassedOver()
    parts = [_part(text, column, passed) for text in given]
    counts = [count for _, count in parts]
    items = (source for make, _ in parts for source in make())
    return Sources(items, None if None in counts else sum(filter(None, counts)), passed)


def _part(
    text: str, column: str | None, passed: PassedOver
) -> tuple[Callable[[], Iterator[Source]], int | None]:
    """How to make the sources of one argument, and their number."""
    path = Path(text)
    if text == STANDARD_INPUT:
        return _listed, None
    if path.suffix.lower() == ".parquet" and path.is_file():
        name, rows = _parquet_column(path, column)
        return lambda: _rows(path, name), rows
    if glob.has_magic(text) and not path.exists():
        matches = glob.iglob(text, recursive=True)  # noqa: PTH207, Path.glob takes no absolute pattern
        found = sorted(name for name in matches if not Path(name).is_dir())
        if not found:
            raise InputError(f"{text} matches no file.")
        return lambda: map(Source, found), len(found)
    count = sum(1 for _ in images_of(path, passed))
    return lambda: (Source(str(image)) for image in images_of(path, PassedOver())), count


def _listed() -> Iterator[Source]:
    for line in sys.stdin.buffer:
        if name := os.fsdecode(line).rstrip("\r\n"):
            yield Source(name)


def _parquet_column(path: Path, asked: str | None) -> tuple[str, int]:
    """The column that holds images, and the number of rows."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            names, rows = file.schema_arrow.names, file.metadata.num_rows
    except (ArrowException, OSError) as error:
        raise InputError(f"{path} is no Parquet file that can be read: {error}.") from error
    wanted = COLUMNS if asked is None else (asked,)
    for name in wanted:
        if name in names:
            return name, rows
    raise InputError(
        f"{path} has no column {' or '.join(wanted)}: name one with --column, of {', '.join(names)}."
    )


def _rows(path: Path, column: str) -> Iterator[Source]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS, columns=[column]):
                for value in batch.column(0).to_pylist():
                    yield _source(value, f"{path}:{number}", path.parent)
                    number += 1
    except (ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read after row {number}: {error}.") from error


def _source(value: Any, row: str, folder: Path) -> Source:
    """A path, the bytes of a file, or both as data sets on Hugging Face have them.

    Relative paths are those of the working directory, else of the folder of the table.
    """
    if isinstance(value, dict):
        name, value = value.get("path"), value.get("bytes")
        if value is None:
            value = name
        elif name:
            row = f"{row}/{name}"
    if isinstance(value, str):
        beside = folder / value
        return Source(str(beside) if not Path(value).exists() and beside.exists() else value)
    if isinstance(value, bytes):
        return Source(row, value)
    return Source(row, reason=f"{row} must hold a path or the bytes of a file, not {value!r:.40}.")
