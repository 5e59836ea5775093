"""What `osr predict` is given: files, folders, patterns, a list on standard input, Parquet files."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from osr.data.walking import PassedOver, images_of
from osr.errors import InputError
from osr.inference.streams import Source, source_of
from osr.inference.tables import image_column
from osr.stored.digests import digest_of

logger = logging.getLogger("osr")

STANDARD_INPUT = "-"
_ROWS = 256  # of a Parquet file in memory at once


class Part(NamedTuple):
    """The images of one argument.

    Args:
        read: yields those of some rows.
        num_images: None for a list on standard input.
        names: digest of the names in their order, or of a table's size and date.
        files: yields the files that the images of some rows stand in, besides that of a table.
    """

    read: Callable[[range], Iterator[Source]]
    num_images: int | None
    names: str = ""
    files: Callable[[range], Iterator[str]] = lambda _rows: iter(())


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

    def names(self) -> str:
        """Digest of what all images are called."""
        return digest_of([part.names for part in self.parts])

    def state(self, rows: range) -> str:
        """Digest of names, sizes and dates of the files that the images of some rows stand in."""
        found = hashlib.sha256()
        for part, wanted in self._parts_of(rows):
            for name in part.files(wanted):
                found.update(os.fsencode(f"{name}\0{_size_and_date(name)}\0"))
        return found.hexdigest()[:16]

    def _some(self, rows: range) -> Iterator[Source]:
        for part, wanted in self._parts_of(rows):
            yield from part.read(wanted)

    def _parts_of(self, rows: range) -> Iterator[tuple[Part, range]]:
        first = 0
        for part in self.parts:
            count = part.num_images or 0
            wanted = range(max(0, rows.start - first), min(count, rows.stop - first))
            if wanted:
                yield part, wanted
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
    passed, named = PassedOver(), _Named(several=len(given) > 1)
    parts = tuple(_part(text, column, passed, named) for text in given)
    named.tell()
    counts = [part.num_images for part in parts]
    items = (source for part in parts for source in part.read(range(sys.maxsize)))
    return Sources(items, None if None in counts else sum(filter(None, counts)), passed, parts)


class _Named:
    """The files that several arguments name; of one, none is held in memory."""

    def __init__(self, *, several: bool) -> None:
        self._several, self._earlier, self._again = several, set[str](), dict[str, str]()

    def add(self, names: Iterable[str]) -> Iterator[str]:
        """The same names, those of one argument."""
        if not self._several:
            yield from names
            return
        own = set[str]()
        for name in names:
            place = os.path.abspath(name)  # noqa: PTH100, what a link leads to does not matter
            if place in self._earlier:
                self._again[place] = name
            own.add(place)
            yield name
        self._earlier |= own

    def tell(self) -> None:
        """Say which are named by several arguments."""
        if self._again:
            logger.warning(
                "%d files are named more than once, such as %s: each is judged and counted as often.",
                len(self._again),
                next(iter(self._again.values())),
            )


def _part(text: str, column: str | None, passed: PassedOver, named: _Named) -> Part:
    """How to make the sources of one argument, and their number."""
    path = Path(text)
    if text == STANDARD_INPUT:
        return Part(_listed, None)
    if path.suffix.lower() == ".parquet" and path.is_file():
        name, count, holds_paths = _parquet_column(path, column)

        def files(rows: range) -> Iterator[str]:
            return (source.name for source in _rows(path, name, rows)) if holds_paths else iter(())

        names = digest_of([text, name, _size_and_date(text)])
        return Part(lambda rows: _rows(path, name, rows), count, names, files)
    if glob.has_magic(text) and not path.exists():
        matches = glob.iglob(text, recursive=True)  # noqa: PTH207, Path.glob takes no absolute pattern
        found = sorted(name for name in matches if not Path(name).is_dir())
        if not found:
            raise InputError(f"{text} matches no file.")
        return _files(lambda: iter(found), named.add(found))
    first = named.add(map(str, images_of(path, passed)))
    return _files(lambda: map(str, images_of(path, PassedOver())), first)


def _files(listed: Callable[[], Iterator[str]], first: Iterator[str]) -> Part:
    """The part of image files that are listed anew each time, the first time by `first`."""
    count, names = 0, hashlib.sha256()
    for name in first:
        count += 1
        names.update(os.fsencode(name) + b"\0")

    def some(rows: range) -> Iterator[str]:
        return islice(listed(), rows.start, rows.stop)

    return Part(lambda rows: map(Source, some(rows)), count, names.hexdigest()[:16], some)


def _size_and_date(name: str) -> str:
    """Of a file as it is now; empty where there is none."""
    try:
        status = Path(name).stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _listed(_rows: range) -> Iterator[Source]:
    for line in sys.stdin.buffer:
        if name := os.fsdecode(line).rstrip("\r\n"):
            yield Source(name)


def _parquet_column(path: Path, asked: str | None) -> tuple[str, int, bool]:
    """The column that holds images, the number of rows, and whether the images stand in other files."""
    import pyarrow as pa
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (ArrowException, OSError) as error:
        raise InputError(f"{path} is no Parquet file that can be read: {error}.") from error
    name = image_column(schema.names, asked, of=str(path), option="--column")
    kind = schema.field(name).type
    return name, rows, not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


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
