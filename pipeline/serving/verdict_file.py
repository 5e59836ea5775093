"""Where `osr predict` writes: checked before the work, row by row, and whole or not at all in a file."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from osr.errors import InputError
from osr.inference.tables import Record, printable, verdict_schema, verdict_table
from osr.stored.files import written_whole

FORMATS = ("csv", "json", "jsonl", "parquet")
ENDINGS = {f".{form}": form for form in FORMATS}
Write = Callable[[Sequence[Record]], None]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes the file once all is well; until then what stood there stays.

    Raises:
        InputError: the disk is full, or the like.
    """
    try:
        with written_whole(path) as aside:
            yield aside
    except OSError as error:
        raise InputError(f"{path} could not be written: {error.strerror or error}.") from error


@contextmanager
def writing(path: Path | None, form: str, columns: Sequence[str]) -> Iterator[Write]:
    """Give a function that writes some records; what stood in the file stays until the new one is whole.

    Characters that no encoding holds, as in names of files that are no UTF-8, stand there with backslashes.

    Args:
        path: of the file; None means standard output, where rows appear as they come.
        form: one of `FORMATS`.
        columns: the keys of a record, in order; see `osr.inference.tables`.

    Raises:
        InputError: the disk is full, or the like; see also `pipeline.places`.
    """
    if path is None:
        with _rows_of_text(_Printable(sys.stdout), form, columns) as write:
            yield write
        return
    with whole_file(path) as aside, _rows(aside, form, columns) as write:
        yield write


@contextmanager
def _rows(path: Path, form: str, columns: Sequence[str]) -> Iterator[Write]:
    if form == "parquet":
        with _rows_of_parquet(path, columns) as write:
            yield write
        return
    with (
        path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
        _rows_of_text(file, form, columns) as write,
    ):
        yield write


@contextmanager
def _rows_of_text(file: Any, form: str, columns: Sequence[str]) -> Iterator[Write]:
    """CSV with a line of names, one JSON list, or one JSON object a line; each batch is flushed."""
    num_written = 0

    def write(records: Sequence[Record]) -> None:
        nonlocal num_written
        if form == "csv":
            table = csv.DictWriter(file, columns, lineterminator="\n")
            if not num_written:
                table.writeheader()
            table.writerows(records)
        else:
            before = ("[\n", ",\n") if form == "json" else ("", "")
            for number, record in enumerate(records, num_written):
                file.write(before[number > 0] + json.dumps(record) + ("" if form == "json" else "\n"))
        num_written += len(records)
        file.flush()

    yield write
    if form == "json":
        file.write("\n]\n" if num_written else "[]\n")


@contextmanager
def _rows_of_parquet(path: Path, columns: Sequence[str]) -> Iterator[Write]:
    """Batches are gathered to row groups of thousands, as readers of large files expect."""
    from pyarrow.parquet import ParquetWriter

    waiting = list[Record]()

    with ParquetWriter(path, verdict_schema(columns)) as file:

        def flush() -> None:
            file.write_table(verdict_table(waiting, columns))
            waiting.clear()

        def write(records: Sequence[Record]) -> None:
            waiting.extend(records)
            if len(waiting) >= _ROW_GROUP:
                flush()

        yield write
        flush()


_ROW_GROUP = 10_000


class _Printable(io.TextIOBase):
    """Standard output, where characters that its encoding lacks have backslashes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text, self._stream.encoding or "utf-8"))

    def flush(self) -> None:
        self._stream.flush()
