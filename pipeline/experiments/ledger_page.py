"""docs/results.md, which is made of docs/ledger.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.experiments.ledger import NETWORK, Entry, Ledger, Printed

TABLES = """## Tables on other pages

What no run of the six stages measures has a command of its own, which stands beside its tables. `osr reproduce NAME`
runs it in a clone of the present commit, and compares the first number of each cell. The commit is that of the numbers
or of the text that brought them."""  # noqa: E501, as shown
COLUMNS = ("`osr reproduce`", "tables", "made at commit", "hardware", "minutes", "tolerance")


def page(ledger: Ledger) -> str:
    """docs/results.md."""
    parts = [ledger.intro]
    for name, entry in ledger.entries.items():
        parts += _section(name, entry)
    if ledger.tables:
        parts += [TABLES, _list_of(ledger.tables)]
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


def _list_of(tables: Mapping[str, Printed]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|---|---|---:|---:|"]
    for name, of in tables.items():
        where = f"[{of.title}]({of.page})"
        lines.append(
            f"| {name} | {where} | {of.commit} | {of.hardware} | {of.minutes:g} | {of.tolerance:g} |"
        )
    return "\n".join(lines)


def _table(entry: Entry) -> str:
    """A row per detector where a metric is given for several; else a row per number."""
    detectors = {owner: row for owner, row in entry.numbers.items() if owner != NETWORK}
    alike = len({tuple(row) for row in detectors.values()}) == 1
    if alike and len(detectors) > 1 and not entry.published:
        return _detector_table(detectors, entry.numbers.get(NETWORK, {}))
    printed = {published.number: published for published in entry.published}
    names = iter(entry.parsed())
    lines = ["| number | this repository |" + (" printed |" if printed else "")]
    lines.append("|---|---|" + ("---|" if printed else ""))
    for owner, row in entry.numbers.items():
        for metric, text in row.items():
            shown = metric if owner == NETWORK else f"{metric} `{owner}`"
            other = printed.get(next(names).name)
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


def _time(minutes: float) -> str:
    if minutes <= 1:
        return "a minute" if minutes == 1 else f"{60 * minutes:.0f} seconds"
    return f"some {minutes:g} minutes" if minutes < 90 else f"some {minutes / 60:.1f} hours"
