"""Tables of the documents beside those that their command prints now."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from osr.errors import InputError
from pipeline.experiments.clean_clone import clone_of, environment_of, present_commit
from pipeline.experiments.ledger import LEDGER, Number, Printed, Verdict

_NUMBER = re.compile(r"-?\d+(?:,\d{3}(?!\d))*(?:\.\d+)?(?:e[+-]?\d+)?")
_HEADING = re.compile(r"(#+) (.+)")
_SIGNS = "`*† "
_SHELL = """set -euo pipefail
osr() { "$OSR_PYTHON" -m pipeline.cli "$@"; }
python() { "$OSR_PYTHON" "$@"; }
"""


@dataclass(frozen=True)
class Table:
    """A table in Markdown: its columns, and the cells of each row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def reproduced(name: str, of: Printed) -> list[Verdict]:
    """Run the command in a clone of the present commit; each number of the page beside what it printed.

    Raises:
        InputError: a file is missing, the command failed, or it printed no table of the page.
    """
    page = tables(section(LEDGER.parent, of.page))
    return compared(name, of, page, tables(_printed(name, of)))


def compared(name: str, of: Printed, page: Sequence[Table], printed: Sequence[Table]) -> list[Verdict]:
    """Each number of those tables of the page whose columns the command prints, too.

    Raises:
        InputError: there is no such table.
    """
    shared = [table for table in page if any(other.columns == table.columns for other in printed)]
    if not shared:
        raise InputError(f"{name}: the command printed no table with the columns of one in {of.page}.")
    found = dict(cell for table in printed for cell in _cells(table, of))
    return [
        Verdict(
            Number(row, _named(columns, at), value, None, None), found.get((columns, row, at)), of.tolerance
        )
        for table in shared
        for (columns, row, at), value in _cells(table, of)
    ]


def _cells(table: Table, of: Printed) -> Iterator[tuple[tuple[tuple[str, ...], str, int], float]]:
    """(columns, row, number of the column) and the first number of each cell that has one."""
    for row in table.rows:
        if of.rows and row[0].strip(_SIGNS) not in of.rows:
            continue
        name = " ".join(cell.strip(_SIGNS) for cell in row[: of.keys])
        for at in range(of.keys, len(row)):
            match = _NUMBER.search(row[at].replace("−", "-"))
            if match and table.columns[at] not in of.not_compared:
                yield (table.columns, name, at), float(match[0].replace(",", ""))


def _named(columns: Sequence[str], at: int) -> str:
    """A column by its name, or with the one before it where two have that name."""
    return columns[at] if columns.count(columns[at]) == 1 else f"{columns[at - 1]} {columns[at]}"


def tables(text: str) -> list[Table]:
    """The tables of a text; rows under the same columns in two of them are two tables.

    Raises:
        InputError: a row has more or fewer cells than its table has columns.
    """
    found: list[Table] = []
    block: list[tuple[str, ...]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|") and line.rstrip().endswith("|"):
            block.append(tuple(cell.strip() for cell in line.strip()[1:-1].split("|")))
        elif block:
            found.append(_table(block))
            block = []
    return found


def _table(block: Sequence[tuple[str, ...]]) -> Table:
    columns, *rows = block
    rows = [row for row in rows if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    for row in rows:
        if len(row) != len(columns):
            raise InputError(f"A row of a table has {len(row)} cells under {len(columns)} columns: {row}")
    return Table(tuple(column.strip("`*") for column in columns), tuple(rows))


def section(docs: Path, place: str) -> str:
    """What stands under a heading, `page.md#anchor` below a folder, and under those below it; or the page.

    Raises:
        InputError: there is no such file or heading.
    """
    name, _, anchor = place.partition("#")
    path = docs / name
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text and not anchor:
        return text
    kept: list[str] = []
    level = fence = 0
    for line in text.splitlines():
        fence ^= line.startswith("```")
        heading = None if fence else _HEADING.fullmatch(line)
        if heading and level and len(heading[1]) <= level:
            break
        if heading and not level and _anchor(heading[2]) == anchor:
            level = len(heading[1])
        if level:
            kept.append(line)
    if not kept:
        raise InputError(f"{path} is missing or has no heading with the anchor #{anchor}.")
    return "\n".join(kept)


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _printed(name: str, of: Printed) -> str:
    """What the command prints; it is shown as it comes.

    Raises:
        InputError: a file is missing, or the command failed.
    """
    for file in of.files:
        if not Path(file).exists():
            raise InputError(f"{name} needs {file}, which is not here.")
    clone = clone_of(name, present_commit())
    for file in of.files:
        place = clone / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(Path(file).absolute())
    env = {**environment_of(clone), "OSR_PYTHON": sys.executable}
    script = ["bash", "-c", _SHELL + of.command]
    lines = []
    with subprocess.Popen(script, cwd=clone, env=env, stdout=subprocess.PIPE, encoding="utf-8") as program:
        assert program.stdout is not None
        for line in program.stdout:
            sys.stderr.write(line)
            lines.append(line)
    if program.returncode:
        raise InputError(f"{name}: the command in {clone} ended with status {program.returncode}.")
    return "".join(lines)
