"""What `osr predict` is given: files, folders, patterns, a list on standard input, Parquet files."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from osr.data.walking import PassedOver, images_of
from osr.errors import InputError
from osr.inference.streams import Source, source_of
from osr.inference.tables import image_column

STANDARD_INPUT = "-"
_ROWS = 256  # of a Parquet file in memory at once


class Part(NamedTuple):
    """The images of one argument: `read` yields those of some rows; how many is known of all but lists."""

    read: Callable[[range], Iterator[Source]]
    num_images: int | None


class Sources(NamedTuple):
    """Images to judge.

    Args:
        items: yields them; taken as they are needed.
        total: how many, where that can be known before.
        passed: what lies in the folders beside them.
        parts: the same by argument, where there are any.
    """

    items: Iterator[Source]
    total: int | None
    passed: PassedOver
    parts: tuple[Part, ...] = ()

    def only(self, rows: range) -> Sources:
        """Those of consecutive rows of all parts, where there is a total."""
        return self._replace(items=self._some(rows), total=len(rows))

    def _some(self, rows: range) -> Iterator[Source]:
        first = 0
        for part in self.parts:
            count = part.num_images or 0
            wanted = range(max(0, rows.start - first), min(count, rows.stop - first))
            if wanted:
                yield from part.read(wanted)
            first += count


def open_sources(given: Sequence[str], *, column: str | None = None) -> Sources:
    """Check what is given, and count it; nothing is read yet.

    Args:
        given: paths of images, folders or Parquet files, patterns such as `photos/**/*.jpg`, or `-` for paths
            on standard input, one a line.
        column: of the Parquet files; None means the first of `IMAGE_COLUMNS` that there is.

    Raises:
        InputError: nothing there, a folder without images, or a Parquet file without such a column.
    """
    passed = PassedOver()
    parts = tuple(_part(text, column, passed) for text in given)
    counts = [part.num_images for part in parts]
    items = (source for part in parts for source in part.read(range(sys.maxsize)))
    return Sources(items, None if None in counts else sum(filter(None, counts)), passed, parts)


def _part(text: str, column: str | None, passed: PassedOver) -> Part:
    """How to make the sources of one argument, and their number."""
    path = Path(text)
    if text == STANDARD_INPUT:
        return Part(_listed, None)
    if path.suffix.lower() == ".parquet" and path.is_file():
        name, count = _parquet_column(path, column)
        return Part(lambda rows: _rows(path, name, rows), count)
    if glob.has_magic(text) and not path.exists():
        matches = glob.iglob(text, recursive=True)  # noqa: PTH207, Path.glob takes no absolute pattern
        found = sorted(name for name in matches if not Path(name).is_dir())
        if not found:
            raise InputError(f"{text} matches no file.")
        return Part(lambda rows: map(Source, found[rows.start : rows.stop]), len(found))
    count = sum(1 for _ in images_of(path, passed))
    return Part(lambda rows: _images(path, rows), count)


def _images(path: Path, rows: range) -> Iterator[Source]:
    for image in islice(images_of(path, PassedOver()), rows.start, rows.stop):
        yield Source(str(image))


def _listed(_rows: range) -> Iterator[Source]:
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
    return image_column(names, asked, of=str(path), option="--column"), rows


def _rows(path: Path, column: str, rows: range) -> Iterator[Source]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                after = number + file.metadata.row_group(group).num_rows
                if after <= rows.start or number >= rows.stop:
                    number = after
                    continue
                for batch in file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[column]):
                    for value in batch.column(0).to_pylist():
                        if number in rows:
                            yield source_of(value, f"{path}:{number}", path.parent)
                        number += 1
    except (ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read after row {number}: {error}.") from error
