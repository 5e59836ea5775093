"""Command compare: a table over runs, mean and interval of each method, the best marked."""

from __future__ import annotations

import argparse
import io
import logging
import math
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from osr.errors import InputError
from osr.metrics.bootstrap import RESAMPLED, FloatArray, bootstrap_replicates
from osr.metrics.comparison import bootstrap_difference
from osr.params import load_params
from osr.stored.files import write_whole
from pipeline.comparing.conditions import matching, select
from pipeline.comparing.grouping import REPEATS, Method, by_task, only_detectors
from pipeline.comparing.missing import TRIAL, Gap, gaps, num_trials, print_missing
from pipeline.comparing.summary import PValue, Section, leaves_its_range, lower_is_better, sections
from pipeline.comparing.tables import print_terminal, to_csv, to_latex, to_markdown
from pipeline.experiments.waiting import told, waiting
from pipeline.places import form_of
from pipeline.tracking.results import Result, Stored, read_files, read_scores, read_workspace
from pipeline.tracking.store import is_begun
from pipeline.workspace.place import workspace_root
from pipeline.workspace.stages import PARAMS

ESTIMATE = "estimate/"
TESTED, ESTIMATED = ("auroc", "auoscr"), (f"{ESTIMATE}auroc", f"{ESTIMATE}unknown_rejection")
BY_GROUP = "intervals/by_group"  # the metric that says whether whole groups were drawn
ENDINGS = {".md": "markdown", ".csv": "csv", ".tex": "latex", ".txt": "terminal"}
WRITERS = {"markdown": to_markdown, "csv": to_csv, "latex": to_latex}

_MAX_REASON_LENGTH = 200

logger = logging.getLogger("osr.compare")


def run(options: argparse.Namespace) -> int:
    """Print the table, or the commands that run what is missing.

    Raises:
        InputError: bad options, or MLflow cannot be reached.
    """
    form = form_of(options.out, options.format, ENDINGS, "terminal")
    stored = Stored([read_files()], []) if options.files else _stored()
    planned = [] if options.files else waiting(workspace_root(), stored)
    all_of, to_come = [*stored.done, *planned], matching(planned, options.where)
    if options.missing:
        print_missing(select(all_of, options.where), [run.name for run in to_come], all_of)
        return 0
    going = matching([*stored.going, *planned], options.where)
    if names := list(dict.fromkeys(run.name for run in going)):
        if not stored.done:
            raise InputError(f"No run has test metrics yet; {told(names)}.")
        logger.warning("not in the table: %s.", told(names))
    selected = select(stored.done, options.where)
    results = only_detectors(selected, options.detector)
    options.metrics = list(dict.fromkeys(options.metrics or default_metrics(results)))
    tables = tables_of(results, options, lacking=[] if options.files else gaps(selected, all_of))
    _warn_of_mixed(tables)
    if options.diagram is not None:  # first, because it may be refused
        from pipeline.comparing.diagram import write_diagram  # matplotlib takes half a second

        metric, significance = options.metrics[0], options.significance
        write_diagram(results, metric, options.diagram, significance=significance)
        logger.info("%s holds the mean ranks by %s.", options.diagram, metric)
    _print_tables(tables, form, options.out)
    return 0


def default_metrics(results: Sequence[Result]) -> list[str]:
    """The columns: where no run has tested unknown images, what is estimated instead, if any run has that."""
    found = {key.rpartition("/")[0] for result in results for key in result.metrics}
    others = TESTED if not results or "auroc" in found else ESTIMATED if ESTIMATED[0] in found else ()
    return [*others, "closed_set/accuracy"]


def _stored() -> Stored:
    """The rows in MLflow.

    Raises:
        InputError: the store cannot be reached, or this is no project.
    """
    if not (PARAMS.exists() or is_begun(workspace_root())):
        raise InputError(
            f"There is no store of MLflow here, and no project. Go into yours (the folder with {PARAMS}), or "
            "make one with `osr init`."
        )
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return read_workspace(workspace_root())
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", _MAX_REASON_LENGTH)
        raise InputError(
            f"MLflow cannot be read ({reason}); --files compares the detectors of the present run without it."
        ) from error


def tables_of(
    results: Sequence[Result], options: argparse.Namespace, *, lacking: Sequence[Gap]
) -> list[Section]:
    """A table per task, with notes that say how to read it, and of `lacking` which trials were not run.

    `options` are those of `osr compare`: metrics, confidence, significance, files.
    """
    tables = sections(
        results,
        options.metrics,
        confidence=options.confidence,
        significance=options.significance,
        p_value=_bootstrap_p_value() if options.files else None,
    )
    drawn = {task: _drawn(runs) for task, runs in by_task(results).items()}
    return [
        replace(table, notes=(*_legend(table, drawn, options), *table.notes, *_gap_notes(table, lacking)))
        for table in tables
    ]


def _drawn(results: Sequence[Result]) -> str:
    """What the intervals of single runs were drawn from; rows older than groups do not say it."""
    by_group = {result.metrics.get(BY_GROUP, 0) == 1 for result in results}
    if by_group == {True}:
        return "whole groups of images that belong together"
    return "its images, or groups of them where the split has groups" if any(by_group) else "its images"


def _legend(table: Section, drawn: Mapping[str, str], options: argparse.Namespace) -> Iterator[str]:
    """What the signs in the table mean, those that are in it."""
    cells = [cell for line in table.lines for cell in line.cells.values() if cell is not None]
    share = f"{100 * options.confidence:g} %"
    if any(cell.n > 1 for cell in cells):
        yield f"±: half the {share} t-interval over n runs that differ in {', '.join(REPEATS)} alone."
        if any(
            leaves_its_range(metric, line.cells[metric]) for line in table.lines for metric in table.metrics
        ):
            yield "With so few runs a mean ± half its interval can leave the range that the metric has."
    single = {
        metric
        for line in table.lines
        for metric, cell in line.cells.items()
        if cell is not None and cell.n == 1 and not math.isnan(cell.low)
    }
    if of_classes := sorted(metric for metric in single if metric.startswith(ESTIMATE)):
        yield f"[low, high] of {', '.join(of_classes)}: over known classes, each left out once, of one run."
    if single - set(of_classes):
        yield (
            "[low, high]: the interval of a single run, whose width comes from a bootstrap over "
            f"{drawn[table.task]}."
        )
    if _mixed(table):
        yield "A column holds both: ± says how far runs differ, of which a single run says nothing."
    if lower := [metric for metric in table.metrics if lower_is_better(metric)]:
        yield f"Smaller is better: {', '.join(lower)}."
    if any(cell.n > 1 for cell in cells) or options.files:
        yield from _of_tests(table, options)
    elif cells:
        yield "Nothing is marked: single runs show no differences; --files compares detectors on the images."


def _of_tests(table: Section, options: argparse.Namespace) -> Iterator[str]:
    """What is marked and why, and what could not be tested."""
    test = "paired t-test over the runs that both have"
    if options.files:
        test = f"paired bootstrap over {'the images' if read_scores()[1] is None else 'groups of images'}"
    if any(cell.best for line in table.lines for cell in line.cells.values() if cell is not None):
        yield (
            "Marked: the best, and what does not differ from it significantly "
            f"({test}, Holm's correction, p >= {options.significance:g})."
        )
    elif any(tests.made for tests in table.tests.values()):
        yield f"Nothing is marked: no difference from the best is significant ({test}, Holm's correction)."
    elif len(table.lines) > 1 and not any(tests.lacking for tests in table.tests.values()):
        yield "Nothing is marked: no method differs from another."
    lacking = {metric: tests.lacking for metric, tests in table.tests.items() if tests.lacking}
    untested = [metric for metric in lacking if not table.tests[metric].made]
    if untested:
        yield f"Nothing was tested in {', '.join(untested)}{_why(table, untested, options)}."
    if partly := [f"{number} in {metric}" for metric, number in lacking.items() if metric not in untested]:
        yield (
            "Not tested, and so not marked, for want of two trials and seeds in common with the best: "
            f"{', '.join(partly)}."
        )


def _why(table: Section, untested: Sequence[str], options: argparse.Namespace) -> str:
    """Why there was no test of these metrics, and what makes one."""
    if options.files:
        return ": no bootstrap draws it"
    if any(_num_runs_of_best(table, metric) == 1 for metric in untested):
        return (
            ", because the best there has one run: --where leaves it out, and more trials or seeds of it "
            "make a test"
        )
    return ", because the best there has no two trials and seeds in common with another method"


def _num_runs_of_best(table: Section, metric: str) -> int:
    cells = [cell for line in table.lines if (cell := line.cells[metric]) is not None]
    choose = min if lower_is_better(metric) else max
    return choose(cells, key=lambda cell: cell.mean).n


def _mixed(table: Section) -> list[str]:
    """The metrics in whose column cells of several runs stand beside cells of single ones."""
    columns = {metric: [line.cells[metric] for line in table.lines] for metric in table.metrics}
    return [
        metric
        for metric, cells in columns.items()
        if any(cell is not None and cell.n > 1 for cell in cells)
        and any(cell is not None and cell.n == 1 for cell in cells)
    ]


def _warn_of_mixed(tables: Sequence[Section]) -> None:
    """Say on standard error what a table that is piped into a file would hide."""
    for table in tables:
        if metrics := _mixed(table):
            logger.warning(
                "%s: %s: methods of several runs (±) beside methods of one run, whose interval says "
                "something else; run the missing trials (--missing), or leave methods out (--where).",
                table.task,
                ", ".join(metrics),
            )


def _gap_notes(table: Section, lacking: Sequence[Gap]) -> Iterator[str]:
    for gap in lacking:
        if gap.task == table.task:
            runs = f" of {gap.settings}" if gap.settings else ""
            trials, number = ", ".join(map(str, gap.trials)), num_trials(gap.like.params)
            of_protocol = f"of the protocol's {number} trials"
            yield f"Not run {of_protocol}: {TRIAL} {trials}{runs}; --missing prints the command that does."


def _print_tables(tables: Sequence[Section], form: str, out: Path | None) -> None:
    if form == "terminal" and out is None:
        print_terminal(tables, sys.stdout)
        return
    text = io.StringIO()
    if form == "terminal":
        print_terminal(tables, text)
    else:
        text.write(WRITERS[form](tables))
    if out is None:
        sys.stdout.write(text.getvalue())
    else:
        write_whole(out, text.getvalue().encode())
        logger.info("%s holds the table.", out)


def _bootstrap_p_value() -> PValue:
    """The paired test between two detectors of the present run, on the same images and draws."""
    (scores, groups), settings = read_scores(), load_params(PARAMS).evaluate

    @cache
    def drawn(detector: str) -> dict[str, FloatArray]:
        return bootstrap_replicates(
            *scores[detector],
            replicates=settings.bootstrap_replicates,
            seed=settings.seed,
            num_threads=2,
            groups=groups,
        )

    def p_value(metric: str, one: Method, two: Method) -> float | None:
        if metric not in RESAMPLED:
            return None  # so nothing is known of its spread
        first, second = (drawn(method.detector)[metric] for method in (one, two))
        return bootstrap_difference(first, second, estimate=0.0, confidence=0.95).p_value

    return p_value
