"""A table over runs: mean and interval of each method on each data set and protocol, the best marked.

python -m pipeline.compare                                     all finished runs in MLflow
python -m pipeline.compare --files                             the present run, from its files
python -m pipeline.compare --metrics auroc fpr_at_95tpr_known --format latex --out table.tex
python -m pipeline.compare --diagram ranks.pdf                 also draw the methods' mean ranks over runs
python -m pipeline.compare --missing | sh && dvc queue start   run the trials that are missing

Runs that differ in split.trial, split.seed and train.seed alone are repeats: their mean comes with half its
t-interval. A single run comes with its bootstrap interval over images. Marked are the best method and those
that do not differ from it significantly (paired t-test over the repeats that both have; for one run of
--files a paired bootstrap over its images; Holm's correction). Where nothing differs, nothing is marked.
The diagram shows the first metric: bars join methods whose mean ranks differ by less than the critical
difference (Friedman, Nemenyi; Demšar 2006). It takes runs as independent, while trials of one data set share
images.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from osr.bootstrap import FloatArray, bootstrap_replicates
from osr.comparison import bootstrap_difference
from osr.config import flatten, load_params
from osr.errors import InputError
from pipeline.grouping import REPEATS, Method
from pipeline.missing import TRIAL, Gap, command, gaps
from pipeline.named import names_in
from pipeline.results import Result, read_files, read_scores, read_store, select
from pipeline.stages import PARAMS
from pipeline.store import connect, workspace_root
from pipeline.summary import PValue, Section, sections
from pipeline.sweep import missing
from pipeline.sweep_file import FOLDER as SWEEPS
from pipeline.sweep_file import load_sweep
from pipeline.tables import print_terminal, to_csv, to_latex, to_markdown

DEFAULT_METRICS = ("auroc", "auoscr", "closed_set/accuracy")
WRITERS = {"markdown": to_markdown, "csv": to_csv, "latex": to_latex}

_MAX_REASON_LENGTH = 200

logger = logging.getLogger("osr.compare")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the status is 1 after bad input, or when MLflow cannot be reached."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        _check(options)
        results = select([read_files()] if options.files else _stored(), options.where)
        if options.missing:
            _print_missing(results)
        else:
            _print_tables(_tables(results, options), options)
            if options.diagram is not None:
                from pipeline.diagram import write_diagram  # matplotlib takes half a second

                metric, significance = options.metrics[0], options.significance
                write_diagram(results, metric, options.diagram, significance=significance)
    except InputError as error:
        logger.error("%s", error)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--files", action="store_true", help="the present run's files instead of MLflow's rows")
    add("--metrics", nargs="+", default=list(DEFAULT_METRICS), metavar="NAME", help="columns (%(default)s)")
    add("--where", action="append", default=[], metavar="KEY=VALUE", help="only runs with this parameter")
    add("--missing", action="store_true", help="print the commands that queue missing trials, and no table")
    add("--format", choices=["terminal", *WRITERS], default="terminal", help="of the table (%(default)s)")
    add("--out", type=Path, metavar="FILE", help="write the table there instead of standard output")
    add("--diagram", type=Path, metavar="FILE", help="also draw mean ranks over runs: a png, pdf or svg")
    add("--confidence", type=float, default=0.95, help="of intervals over repeats (%(default)s)")
    add("--significance", type=float, default=0.05, help="p-value below which methods differ (%(default)s)")
    return parser


def _check(options: argparse.Namespace) -> None:
    for name in ("confidence", "significance"):
        if not 0 < getattr(options, name) < 1:
            raise InputError(f"--{name} must lie between 0 and 1, not {getattr(options, name)}.")
    for name in ("out", "diagram"):
        path = getattr(options, name)
        if path is not None and not path.parent.is_dir():
            raise InputError(f"--{name} {path}: the folder {path.parent} does not exist.")
        if path is not None and path.is_dir():
            raise InputError(f"--{name} {path}: must be a file, but it is a folder.")


def _stored() -> list[Result]:
    """The rows in MLflow.

    Raises:
        InputError: the store cannot be reached.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return read_store(connect(workspace_root()))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", _MAX_REASON_LENGTH)
        raise InputError(
            f"MLflow cannot be read ({reason}); --files compares the detectors of the present run without it."
        ) from error


def _tables(results: Sequence[Result], options: argparse.Namespace) -> list[Section]:
    tables = sections(
        results,
        options.metrics,
        confidence=options.confidence,
        significance=options.significance,
        p_value=_bootstrap_p_value() if options.files else None,
    )
    lacking = [] if options.files else gaps(results)
    return [
        replace(table, notes=(*_legend(table, options), *table.notes, *_gap_notes(table, lacking)))
        for table in tables
    ]


def _legend(table: Section, options: argparse.Namespace) -> Iterator[str]:
    """What the signs in the table mean, those that are in it."""
    cells = [cell for line in table.lines for cell in line.cells.values() if cell is not None]
    share = f"{100 * options.confidence:g} %"
    if any(cell.n > 1 for cell in cells):
        yield f"±: half the {share} t-interval over n runs that differ in {', '.join(REPEATS)} alone."
    if any(cell.n == 1 and not math.isnan(cell.low) for cell in cells):
        yield "[low, high]: the bootstrap interval of a single run over its images."
    test = (
        "paired bootstrap over the images" if options.files else "paired t-test over the runs that both have"
    )
    if any(cell.best for cell in cells):
        yield (
            "Marked: the best, and what does not differ from it significantly "
            f"({test}, Holm's correction, p >= {options.significance:g})."
        )
    elif all(cell.n == 1 for cell in cells) and not options.files:
        yield "Nothing is marked: single runs show no differences; --files compares detectors on the images."
    elif len(table.lines) > 1:
        yield f"Nothing is marked: no difference from the best is significant ({test}, Holm's correction)."


def _gap_notes(table: Section, lacking: Sequence[Gap]) -> Iterator[str]:
    for gap in lacking:
        if gap.task == table.task:
            runs = f" of {gap.settings}" if gap.settings else ""
            trials = ", ".join(map(str, gap.trials))
            yield f"Not run: {TRIAL} {trials}{runs}; --missing prints the command that does."


def _print_tables(tables: Sequence[Section], options: argparse.Namespace) -> None:
    if options.format == "terminal" and options.out is None:
        print_terminal(tables, sys.stdout)
    elif options.format == "terminal":
        with options.out.open("w", encoding="utf-8") as file:
            print_terminal(tables, file)
    elif options.out is None:
        sys.stdout.write(WRITERS[options.format](tables))
    else:
        options.out.write_text(WRITERS[options.format](tables), encoding="utf-8")


def _print_missing(results: Sequence[Result]) -> None:
    """The commands of missing trials, and as comments, which a shell passes over, those of named sweeps."""
    current = {key: str(value) for key, value in flatten(load_params(PARAMS)).items()}
    lines = [command(gap, current) for gap in gaps(results)] or ["# no trial is missing"]
    for name in names_in(SWEEPS):
        sweep = load_sweep(name)
        if lacking := len(missing(sweep, results)):
            whole = f"{lacking} of {len(sweep.experiments())} experiments not run"
            lines.append(f"# sweep {name}, {whole}: python -m pipeline.sweep {name} --missing --queue")
    sys.stdout.write("\n".join(lines) + "\n")


def _bootstrap_p_value() -> PValue:
    """The paired test between two detectors of the present run, on the same images and draws."""
    scores, settings = read_scores(), load_params(PARAMS).evaluate

    @cache
    def drawn(detector: str) -> dict[str, FloatArray]:
        return bootstrap_replicates(
            *scores[detector], replicates=settings.bootstrap_replicates, seed=settings.seed, num_threads=2
        )

    def p_value(metric: str, one: Method, two: Method) -> float:
        first, second = (drawn(method.detector).get(metric) for method in (one, two))
        if first is None or second is None:
            return 1.0  # not resampled, so nothing is known of its spread
        return bootstrap_difference(first, second, estimate=0.0, confidence=0.95).p_value

    return p_value


if __name__ == "__main__":
    sys.exit(main())
