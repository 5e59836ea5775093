"""Tables of a comparison for the terminal (rich), Markdown, CSV and LaTeX (booktabs)."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.comparing.summary import Cell, Line, Section

EMPTY = "–"
# One line under the heading, a blank between columns: three intervals fit in 80 characters.
_RULE = box.Box("    \n    \n ── \n" + "    \n" * 5)
_PLAIN_WIDTH = 200  # characters, where no terminal tells its own


class Style(NamedTuple):
    """How a number is written: one value, with half its interval, with both ends, and as one of the best."""

    alone: str
    half: str
    ends: str
    best: str


PLAIN = Style("{}", "{} ± {}", "{} [{}, {}]", "{}")
MARKDOWN = PLAIN._replace(best="**{}**")
LATEX = Style("${}$", r"${} \pm {}$", r"${}\;[{}, {}]$", r"{{\boldmath{}}}")


def print_terminal(sections: Sequence[Section], stream: TextIO) -> None:
    """Write one rich table per section; the best in bold and, for those who see no bold, with a star."""
    console = Console(
        file=stream, highlight=False, emoji=False, width=None if stream.isatty() else _PLAIN_WIDTH
    )
    for section in sections:
        title = Text(section.task, style="bold")
        table = Table(title=title, title_justify="left", box=_RULE, padding=0)
        for position, heading in enumerate(headings(section)):
            justify: Literal["left", "right"] = "left" if position < num_labels(section) else "right"
            # A long name may break where it has a part of its own, not in the middle of a word.
            table.add_column(Text(heading.replace("/", "/\n")), justify=justify, overflow="fold")
        for line in section.lines:
            numbers = [
                Text(f"{text}*", style="bold") if best else Text(f"{text} ")
                for text, best in zip(_numbers(section, line, PLAIN), _marks(section, line), strict=True)
            ]
            table.add_row(*map(Text, labels(section, line)), *numbers)
        console.print(table)
        for note in section.notes:
            console.print(Text(note, style="dim"))
        console.print()


def to_markdown(sections: Sequence[Section]) -> str:
    """One heading and one table per section; the best in bold."""
    parts = []
    for section in sections:
        names, num_text = headings(section), num_labels(section)
        rows = [names, ["---"] * num_text + ["---:"] * (len(names) - num_text)]
        for line in section.lines:
            texts = [label.replace("|", r"\|") for label in labels(section, line)]
            rows.append([*texts, *_numbers(section, line, MARKDOWN)])
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts.append("\n\n".join([f"### {section.task}", table, *section.notes]) + "\n")
    return "\n".join(parts)


def to_latex(sections: Sequence[Section]) -> str:
    """One tabular per section, for `booktabs`; the best in bold, the notes as comments."""
    parts = []
    for section in sections:
        names, num_text = headings(section), num_labels(section)
        columns = "l" * num_text + "r" * (len(names) - num_text)
        rows = [[*map(latex_escape, names)]]
        for line in section.lines:
            texts = [latex_escape(label) for label in labels(section, line)]
            rows.append([*texts, *(text.replace(EMPTY, "--") for text in _numbers(section, line, LATEX))])
        heading, *body = [" & ".join(row) + r" \\" for row in rows]
        lines = [f"% {note}" for note in (section.task, *section.notes)]
        lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", heading, r"\midrule", *body]
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n")
    return "\n".join(parts)


def to_csv(sections: Sequence[Section]) -> str:
    """One line per task, method and metric with all digits; settings as `key=value` text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["task", "detector", "settings", "metric", "mean", "low", "high", "n", "best"])
    for section in sections:
        for line in section.lines:
            settings = " ".join(f"{key}={value}" for key, value in line.method.settings)
            for metric, cell in line.cells.items():
                ends = [] if cell is None else [cell.mean, cell.low, cell.high]
                numbers = ["" if math.isnan(end) else repr(end) for end in ends] or ["", "", ""]
                outcome = [0, "false"] if cell is None else [cell.n, str(cell.best).lower()]
                writer.writerow([section.task, line.method.detector, settings, metric, *numbers, *outcome])
    return buffer.getvalue()


def headings(section: Section) -> list[str]:
    """Settings by the shortest end of their key that tells them apart, detector, n, metrics."""
    return [*short_keys(section.keys), "detector", "n", *section.metrics]


def labels(section: Section, line: Line) -> list[str]:
    """The columns of a line before its numbers."""
    settings = dict(line.method.settings)
    return [*(settings.get(key, EMPTY) for key in section.keys), line.method.detector or "all", str(line.n)]


def short_keys(keys: Sequence[str]) -> list[str]:
    """The last parts of dotted keys, as many as keep them different; a name is headed by what it names.

    >>> short_keys(["train.lr", "model.head.name", "train.seed", "split.seed"])
    ['lr', 'head', 'train.seed', 'split.seed']
    """
    named = [key.removesuffix(".name") for key in keys]
    if len(set(named)) < len(named):
        named = list(keys)
    shortened = []
    for key in named:
        parts = key.split(".")
        ends = (".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1))
        others = [other for other in named if other != key]
        unique = (end for end in ends if not any(f".{other}".endswith(f".{end}") for other in others))
        shortened.append(next(unique, key))
    return shortened


def latex_escape(text: str) -> str:
    """Text with TeX's special characters made plain."""
    words = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}
    words |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}  # else ¡ ¿ —
    return re.sub(r"[\\~^–<>|&%$#_{}]", lambda found: words.get(found[0], f"\\{found[0]}"), text)


def num_labels(section: Section) -> int:
    """How many columns are text: settings and detector; n and the metrics are numbers."""
    return len(section.keys) + 1


def _marks(section: Section, line: Line) -> list[bool]:
    cells = (line.cells[metric] for metric in section.metrics)
    return [cell is not None and cell.best for cell in cells]


def _numbers(section: Section, line: Line, style: Style) -> list[str]:
    texts = (_text(line.cells[metric], style) for metric in section.metrics)
    marks = _marks(section, line)
    return [style.best.format(text) if best else text for text, best in zip(texts, marks, strict=True)]


def _text(cell: Cell | None, style: Style) -> str:
    """A cell with three digits: mean and half the interval over repeats, or one run and its own interval."""
    if cell is None:
        return EMPTY
    mean, low, high = (f"{value:.3f}" for value in (cell.mean, cell.low, cell.high))
    if cell.n > 1:
        return style.half.format(mean, f"{(cell.high - cell.low) / 2:.3f}")
    return style.alone.format(mean) if math.isnan(cell.low) else style.ends.format(mean, low, high)
