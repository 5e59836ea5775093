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

FORMATS = ("csv", "json", "jsonl", "parquet")
Write = Callable[[Sequence[Record]], None]


def check_output(path: Path | None, form: str) -> None:
    """Refuse at once where nobody can write.

    Args:
        path: of the file; None means standard output.
        form: one of `FORMATS`, or another that a file may have.

    Raises:
        InputError: a folder, a device, a place that does not exist, or a format that is no text.
    """
    if path is None:
        if form == "parquet":
            raise InputError("--format parquet needs --output FILE.")
        return
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is a folder or a device, but must be a file to write.")
        aside = _aside(path)
        aside.write_bytes(b"")
        aside.unlink()
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes the file once all is well; until then what stood there stays.

    Raises:
        InputError: the disk is full, or the like.
    """
    aside = _aside(path)
    try:
        yield aside
        aside.replace(path)
    except OSError as error:
        raise InputError(f"{path} could not be written: {error.strerror or error}.") from error
    finally:
        aside.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")  # who reads a folder as one table passes over names like this


@contextmanager
def writing(path: Path | None, form: str, columns: Sequence[str]) -> Iterator[Write]:
    """Give a function that writes some records; what stood in the file stays until the new one is whole.

    Characters that no encoding holds, as in names of files that are no UTF-8, stand there with backslashes.

    Args:
        path: of the file; None means standard output, where rows appear as they come.
        form: one of `FORMATS`.
        columns: the keys of a record, in order; see `osr.inference.tables`.

    Raises:
        InputError: the disk is full, or the like; see also `check_output`.
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


NOT_VERDICTS = (KeyError, ValueError, TypeError, csv.Error, RecursionError)  # of reading what is no such file


def read_verdicts(file: Path, columns: Sequence[str]) -> Iterator[Record]:
    """The rows of a file that `osr predict` wrote, in order; of CSV all values are text.

    Args:
        file: .parquet, .json, .jsonl, or CSV under any other name.
        columns: that are needed; there may be others.

    Raises:
        KeyError, ValueError, TypeError, csv.Error, RecursionError: it holds something else (`NOT_VERDICTS`).
    """
    if file.suffix == ".parquet":
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table

        try:
            yield from read_table(file, columns=list(columns)).to_pylist()
        except ArrowException as error:
            raise ValueError(str(error)) from None
        return
    with file.open(encoding="utf-8", newline="") as lines:
        if file.suffix == ".json":
            yield from json.load(lines)
        elif file.suffix == ".jsonl":
            yield from map(json.loads, lines)
        else:
            yield from csv.DictReader(lines)
