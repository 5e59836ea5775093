"""docs/ledger.yaml: published numbers with command, commit and tolerance; docs/results.md is made of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from osr.errors import InputError
from osr.settings.base import Positive, Section
from osr.settings.reading import read_yaml
from osr.settings.sentences import did_you_mean, sentences
from pipeline.workspace.shipped import in_own_project

LEDGER = Path("docs/ledger.yaml")
NETWORK = "network"  # where a detector's name stands otherwise: numbers that no detector has a part in
ACCURACY = "closed_set/accuracy"

_CELL = re.compile(r"(-?\d+\.\d+)(?: ± (\d+\.\d+)| \((-?\d+\.\d+)–(-?\d+\.\d+)\))?")

Text = Annotated[str, Field(min_length=1)]
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
    commit: Text
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

    @field_validator("commit")
    @classmethod
    def _commit_is_one(cls, text: str) -> str:
        if not re.fullmatch("[0-9a-f]{7,40}", text):
            raise ValueError(f"commit is {text!r}, but must be 7 to 40 hexadecimal digits")
        return text

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


@dataclass(frozen=True)
class Ledger:
    """The whole file: what stands above the results, and these by name."""

    intro: str
    entries: Mapping[str, Entry]

    def entry(self, name: str) -> Entry:
        """One entry.

        Raises:
            InputError: there is none of that name.
        """
        if name not in self.entries:
            hint = did_you_mean(name, list(self.entries)) or f"; there are: {', '.join(self.entries)}."
            raise InputError(f"There is no result {name!r} in {LEDGER}{hint}")
        return self.entries[name]


def load_ledger(path: Path = LEDGER) -> Ledger:
    """Read and check the ledger of a clone.

    Raises:
        InputError: this is no clone, or the file is missing or breaks the schema.
    """
    if in_own_project():
        raise InputError(f"{path} is part of a clone of osr, and this is a project of `osr init`.")
    content = read_yaml(path)
    if not isinstance(content, dict) or set(content) != {"intro", "entries"}:
        raise InputError(f"{path} must hold `intro` and `entries`, and nothing else.")
    return Ledger(
        str(content["intro"]), {name: _entry(path, name, of) for name, of in content["entries"].items()}
    )


def _entry(path: Path, name: str, content: Any) -> Entry:
    try:
        return Entry.model_validate(content)
    except ValidationError as error:
        told = sentences(error, Entry)
    raise InputError("\n".join(f"{path}, {name}: {text}" for text in told))


def page(ledger: Ledger) -> str:
    """docs/results.md."""
    parts = [ledger.intro]
    for name, entry in ledger.entries.items():
        parts += _section(name, entry)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _section(name: str, entry: Entry) -> Iterator[str]:
    yield f"{'#' * entry.heading} {entry.title}"
    if entry.command:
        yield f"```sh\n{entry.command.strip()}\n```"
    if entry.before:
        yield entry.before
    yield _table(entry)
    yield (
        f"Made at commit {entry.commit}; {entry.hardware}. `osr reproduce {name}` does it again "
        f"({_time(entry.minutes)}) and lets each number differ by {entry.tolerance:g}."
    )
    if entry.after:
        yield entry.after


def _table(entry: Entry) -> str:
    """A row per detector where a metric is given for several; else a row per number."""
    detectors = {owner: row for owner, row in entry.numbers.items() if owner != NETWORK}
    alike = len({tuple(row) for row in detectors.values()}) == 1
    if alike and len(detectors) > 1 and not entry.published:
        return _detector_table(detectors, entry.numbers.get(NETWORK, {}))
    printed = {published.number: published for published in entry.published}
    lines = ["| number | this repository |" + (" printed |" if printed else "")]
    lines.append("|---|---|" + ("---|" if printed else ""))
    for owner, row in entry.numbers.items():
        for metric, text in row.items():
            shown = metric if owner == NETWORK else f"{metric} `{owner}`"
            other = printed.get(_number(owner, metric, text).name)
            told = f" {other.value:g} ({other.source}) |" if other else " |"
            lines.append(f"| {shown} | {text} |" + (told if printed else ""))
    return "\n".join(lines)


def _detector_table(detectors: Mapping[str, Mapping[str, str]], network: Mapping[str, str]) -> str:
    metrics = list(next(iter(detectors.values())))
    lines = [f"| detector | {' | '.join([*metrics, *network])} |"]
    lines.append("| --- |" + " ---: |" * (len(metrics) + len(network)))
    for detector, row in detectors.items():
        lines.append(f"| {detector} | {' | '.join([*row.values(), *network.values()])} |")
    return "\n".join(lines)


def _number(owner: str, metric: str, text: str) -> Number:
    found = _CELL.fullmatch(text.strip("*"))
    assert found is not None  # the schema has looked at it
    value, half, low, high = (None if part is None else float(part) for part in found.groups())
    assert value is not None
    if half is not None:
        low, high = value - half, value + half
    return Number(owner, metric, value, low, high)


def _time(minutes: float) -> str:
    return f"some {minutes:g} minutes" if minutes < 90 else f"some {minutes / 60:.1f} hours"
