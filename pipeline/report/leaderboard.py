"""All detectors of one run, best AUROC first, each headline metric with its interval: CSV, Markdown, figure.

Stage plot writes them for every run, command leaderboard for any metrics of stage evaluate.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from osr.errors import InputError
from osr.plots.leaderboard import FRAME, ROW, Interval, leaderboard
from osr.plots.style import PAGE_WIDTH, canvas, save, styled
from osr.stored.files import write_whole
from pipeline.report.judge import regret, stored_choice
from pipeline.workspace.files import read_json
from pipeline.workspace.stages import FIGURES, JUDGE, LEADERBOARD

HEADLINES = ("auroc", "auoscr", "fpr_at_95tpr_known")
LOWER_IS_BETTER = ("fpr_at_95tpr_known",)
ENDS = ("", "_low", "_high")
_DPI = 150


def run(options: argparse.Namespace) -> int:
    """Command leaderboard: write tables and figure, and print the table.

    Raises:
        InputError: the metrics are missing, or lack a headline metric.
    """
    metrics = read_json(options.metrics)
    board = columns(metrics)
    stem = options.out or LEADERBOARD / "leaderboard"
    write_tables(board, stem)
    sys.stdout.write(f"{to_markdown(board)}\n")
    if options.out is None and JUDGE.is_file():
        chosen = str(stored_choice()["detector"])
        sys.stdout.write(f"{chosen} was chosen: {regret(chosen, metrics['auroc'])}\n")
    picture = stem.with_name(f"{stem.name}.png") if options.out else FIGURES / "leaderboard.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    with styled():
        save(draw(board), picture, _DPI)
    sys.stdout.write(f"{stem}.csv, {stem}.md and {picture} hold it, too.\n")
    return 0


def columns(metrics: Mapping[str, Any]) -> dict[str, dict[str, Interval]]:
    """Headline metric -> detector -> (value, low, high), from what evaluate wrote.

    Raises:
        InputError: a headline metric or one of its intervals is missing.
    """
    if "auroc" not in metrics and "known_acceptance" in metrics:
        raise InputError(
            "No unknown image was tested, so detectors have no leaderboard; what was estimated stands in "
            "artifacts/leaderboard/estimate.md."
        )
    missing = [f"{metric}{end}" for metric in HEADLINES for end in ENDS if f"{metric}{end}" not in metrics]
    if missing:
        raise InputError(f"The metrics lack {', '.join(missing)}: `osr run evaluate` makes them.")
    _check_numbers(metrics)
    return {metric: intervals(metrics, metric, tuple(metrics[metric])) for metric in HEADLINES}


def _check_numbers(metrics: Mapping[str, Any]) -> None:
    """Refuse what evaluate did not write: a file may be anybody's."""
    first = metrics[HEADLINES[0]]
    for key in (f"{metric}{end}" for metric in HEADLINES for end in ENDS):
        held = metrics[key]
        is_table = isinstance(held, dict) and isinstance(first, dict) and bool(held)
        if not is_table or held.keys() != first.keys():
            raise InputError(f"The metrics' {key} must hold a number of each detector, the same everywhere.")
        for name, value in held.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise InputError(f"The metrics' {key}.{name} must be a number in 0..1, not {value!r:.40}.")


def intervals(metrics: Mapping[str, Any], metric: str, names: Sequence[str]) -> dict[str, Interval]:
    """Detector -> (value, low, high) of a headline metric."""
    return {name: tuple(metrics[f"{metric}{end}"][name] for end in ENDS) for name in names}


def write_tables(board: Mapping[str, Mapping[str, Interval]], stem: Path) -> None:
    """`stem`.csv with all digits, `stem`.md with three."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["detector", *(f"{metric}{end}" for metric in board for end in ENDS)])
    for name in order(board):
        writer.writerow([name, *(repr(value) for values in board.values() for value in values[name])])
    write_whole(stem.with_name(f"{stem.name}.csv"), text.getvalue().encode())
    write_whole(stem.with_name(f"{stem.name}.md"), to_markdown(board).encode())


def read_csv(path: Path) -> dict[str, dict[str, Interval]]:
    """What `write_tables` wrote, to the same bits."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    metrics = header[1 :: len(ENDS)]
    return {
        metric: {row[0]: (float(row[at]), float(row[at + 1]), float(row[at + 2])) for row in rows}
        for at, metric in zip(range(1, len(header), len(ENDS)), metrics, strict=True)
    }


def to_markdown(board: Mapping[str, Mapping[str, Interval]]) -> str:
    """One row per detector, best AUROC first."""
    rows = [["detector", *board], ["---", *("---:" for _ in board)]]
    for name in order(board):
        cells = ("{:.3f} [{:.3f}, {:.3f}]".format(*values[name]) for values in board.values())
        rows.append([name, *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def order(board: Mapping[str, Mapping[str, Interval]]) -> list[str]:
    """The detectors, best AUROC first; equal ones by name."""
    auroc = board["auroc"]
    return sorted(auroc, key=lambda name: (-auroc[name][0], name))


def draw(board: Mapping[str, Mapping[str, Interval]], *, of: str = "") -> Figure:
    """The figure, to be drawn and saved inside `styled()`; `of` stands before the name of each metric."""
    figure = canvas(PAGE_WIDTH, FRAME + ROW * len(board["auroc"]))
    panels = figure.subplots(1, len(board), sharey=True)
    named = {f"{of}{metric}": intervals for metric, intervals in board.items()}
    leaderboard(panels, named, lower_is_better=[f"{of}{metric}" for metric in LOWER_IS_BETTER])
    return figure
