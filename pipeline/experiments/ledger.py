"""docs/ledger.yaml: published numbers with command, commit and tolerance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from osr.errors import InputError
from osr.settings.base import Positive, Section
from osr.settings.guesses import did_you_mean
from osr.settings.reading import read_yaml
from osr.settings.sentences import sentences
from pipeline.workspace.shipped import in_own_project

LEDGER = Path("docs/ledger.yaml")
NETWORK = "network"  # where a detector's name stands otherwise: numbers that no detector has a part in
ACCURACY = "closed_set/accuracy"

_CELL = re.compile(r"(-?\d+\.\d+)(?: ± (\d+\.\d+)| \((-?\d+\.\d+)–(-?\d+\.\d+)\))?")


def _is_commit(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{7,40}", text):
        raise ValueError(f"commit is {text!r}, but must be 7 to 40 hexadecimal digits")
    return text


def _is_place(text: str) -> str:
    if not re.fullmatch(r"[\w/]+\.md(#[^ #]+)?", text):
        raise ValueError(f"page is {text!r}, but must be as metrics.md#risk-and-coverage")
    return text


Text = Annotated[str, Field(min_length=1)]
Commit = Annotated[str, AfterValidator(_is_commit)]
Cells = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Number:
    """A published number: of a detector or the network, with the interval it has, if any."""

    owner: str
    metric: str
    value: float
    low: float | None
    high: float | None

    @property
    def name(self) -> str:
        """Metric and detector, or the metric of a network."""
        return self.metric if self.owner == NETWORK else f"{self.metric} {self.owner}"


class Published(Section):
    """What somebody else printed of the same thing."""

    number: Text
    value: float
    source: Text


class Entry(Section):
    """A result of docs/results.md.

    Args:
        title: its heading, at level `heading`.
        command: what a reader types, a line or several; where an entry above has the same, none.
        sweep: a file in sweeps/, or else `runs`, which holds what such a file may hold.
        variant, only: a name, and key -> value of the sweep's grid, where the entry is a part of it.
        splits: digest of each run's split (artifacts/split/split.json): of its images and their division.
        tolerance: by how much a repetition may differ from each of `numbers`.
        numbers: detector or `network` -> metric -> value as printed: 0.96, 0.960 ± 0.010 or 0.96 (0.95–0.97).
        before, after: Markdown above and below the numbers.
    """

    title: Text
    heading: Literal[2, 3] = 2
    command: str = ""
    sweep: str | None = None
    variant: str | None = None
    runs: dict[str, Any] | None = None
    only: dict[str, Any] = Field(default_factory=dict)
    commit: Commit
    hardware: Text
    minutes: Positive
    seeds: tuple[int, ...] = (0,)
    splits: tuple[str, ...] = ()
    tolerance: Positive
    numbers: Cells
    published: tuple[Published, ...] = ()
    before: str = ""
    after: str = ""

    @field_validator("numbers")
    @classmethod
    def _numbers_are_numbers(cls, cells: Cells) -> Cells:
        for owner, row in cells.items():
            for metric, text in row.items():
                if not _CELL.fullmatch(text.strip("*")):
                    forms = "0.96, 0.960 ± 0.010 or 0.96 (0.95–0.97)"
                    raise ValueError(f"{owner}.{metric} is {text!r}, but must be as {forms}")
        return cells

    @model_validator(mode="after")
    def _has_runs(self) -> Entry:
        if (self.sweep is None) == (self.runs is None):
            raise ValueError("exactly one of `sweep` and `runs` must be given")
        return self

    def parsed(self) -> list[Number]:
        """The numbers, in the order of the file."""
        return [
            _number(owner, metric, text)
            for owner, row in self.numbers.items()
            for metric, text in row.items()
        ]


class Printed(Section):
    """Tables of another page, which a command prints.

    Args:
        title: what they show.
        page: file below docs/, and the anchor of a section, where the tables and the command stand.
        command: what a reader types in a clone; on its standard output are the tables in Markdown.
        files: of the folder of this clone, which the command needs.
        keys: the number of columns that name a row.
        rows: the first cells, without signs, of the rows that the command prints; none where it prints all.
        not_compared: columns, such as seconds.
        tolerance: by how much the first number of a cell may differ.
    """

    title: Text
    page: Annotated[str, AfterValidator(_is_place)]
    command: Text
    commit: Commit
    hardware: Text
    minutes: Positive
    files: tuple[str, ...] = ()
    keys: Annotated[int, Field(ge=1)] = 1
    rows: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    tolerance: Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Ledger:
    """The whole file: what stands above the results, these by name, and the tables of other pages."""

    intro: str
    entries: Mapping[str, Entry]
    tables: Mapping[str, Printed]

    def every(self) -> dict[str, Entry | Printed]:
        """Entries and tables by name."""
        return {**self.entries, **self.tables}

    def entry(self, name: str) -> Entry | Printed:
        """One entry, or the tables of that name.

        Raises:
            InputError: there is none of that name.
        """
        known = self.every()
        if name not in known:
            hint = did_you_mean(name, list(known)) or f"; there are: {', '.join(known)}."
            raise InputError(f"There is no result {name!r} in {LEDGER}{hint}")
        return known[name]


KINDS: dict[str, type[Section]] = {"entries": Entry, "tables": Printed}


@dataclass(frozen=True)
class Verdict:
    """A published number beside the one that was made anew; None where it was not made."""

    number: Number
    found: float | None
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether they differ by the tolerance at most."""
        return self.found is not None and abs(self.found - self.number.value) <= self.tolerance + 1e-12


def load_ledger(path: Path = LEDGER) -> Ledger:
    """Read and check the ledger of a clone.

    Raises:
        InputError: this is no clone, or the file is missing or breaks the schema.
    """
    if in_own_project():
        raise InputError(f"{path} is part of a clone of osr, and this is a project of `osr init`.")
    content = read_yaml(path)
    if not isinstance(content, dict) or not {"intro", "entries"} <= set(content) <= {"intro", *KINDS}:
        raise InputError(f"{path} must hold `intro`, `entries` and `tables`, and nothing else.")
    held = {key: _all(path, content.get(key) or {}, kind) for key, kind in KINDS.items()}
    if twice := sorted(set(held["entries"]) & set(held["tables"])):
        raise InputError(f"{path} has two results of the name {twice[0]}.")
    return Ledger(str(content["intro"]), held["entries"], held["tables"])


def _all(path: Path, content: Mapping[str, Any], kind: type[Section]) -> dict[str, Any]:
    return {name: _checked(path, name, one, kind) for name, one in content.items()}


def _checked(path: Path, name: str, content: Any, kind: type[Section]) -> Section:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        told = sentences(error, kind)
    raise InputError("\n".join(f"{path}, {name}: {text}" for text in told))


def _number(owner: str, metric: str, text: str) -> Number:
    found = _CELL.fullmatch(text.strip("*"))
    assert found is not None  # the schema has looked at it
    value, half, low, high = (None if part is None else float(part) for part in found.groups())
    assert value is not None
    if half is not None:
        low, high = value - half, value + half
    return Number(owner, metric, value, low, high)
