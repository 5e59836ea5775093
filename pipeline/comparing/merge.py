"""Command leaderboard: of one run, or merged from the runs of many people, with the commands of each row."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from osr.errors import InputError
from osr.params import flatten, load_params
from osr.stored.files import write_whole
from pipeline.comparing.compare import default_metrics, tables_of
from pipeline.comparing.conditions import override, select
from pipeline.comparing.diagram import Ranked, draw, ranked
from pipeline.comparing.grouping import REPEATS, Method, by_task, differing, repeat_of, runs_of
from pipeline.comparing.missing import queueing
from pipeline.comparing.summary import Section
from pipeline.comparing.tables import print_terminal, to_csv, to_markdown
from pipeline.places import board_files
from pipeline.report import leaderboard
from pipeline.tracking.other_stores import read_source
from pipeline.tracking.results import COMMIT, DIGEST, SPLIT_DIGEST, Result
from pipeline.workspace.shipped import shipped
from pipeline.workspace.stages import PARAMS, STAGES

MERGE = "merge"
CONFIDENCE, SIGNIFICANCE = 0.95, 0.05
# Where and how fast a run computes; the digests say that the images are the same.
LOCAL = (
    "dataset.root",
    "dataset.folder",
    "dataset.arrays.file",
    "train.accelerator",
    "train.cpu_threads",
    "train.num_workers",
)


def run(options: argparse.Namespace) -> int:
    """Print and write the leaderboard of one run, or with the word merge that of many.

    Raises:
        InputError: see `pipeline.report.leaderboard.run` and `merged`; or a source that cannot be read.
    """
    first, *others = options.sources or [str(STAGES["evaluate"].metrics)]
    if first == MERGE:
        return _merge(others, options)
    if others:
        raise InputError(
            f"{others[0]}: only one file of metrics is read; `osr leaderboard merge` takes more."
        )
    if options.metrics or options.where:
        raise InputError("--metrics and --where go with `osr leaderboard merge` alone.")
    options.metrics = Path(first)
    return leaderboard.run(options)


def _merge(sources: Sequence[str], options: argparse.Namespace) -> int:
    if not sources:
        raise InputError("`osr leaderboard merge` needs folders, mlflow.db files or addresses of servers.")
    results = select([result for source in sources for result in read_source(source)], options.where)
    check_digests(results)
    results = [replace(result, params=_without_local(result.params)) for result in results]
    options.metrics = list(dict.fromkeys(options.metrics or default_metrics(results)))
    options.confidence, options.significance, options.files = CONFIDENCE, SIGNIFICANCE, False
    found = [_with_commands(table, results) for table in tables_of(results, options, lacking=())]
    ranks = _ranks(results, options.metrics[0])
    told = ranks if isinstance(ranks, str) else "\n".join(rank_lines(ranks))
    print_terminal(found, sys.stdout)
    sys.stdout.write(f"{told}\n")
    if options.out is not None:
        table, text, picture = board_files(options.out)
        write_whole(table, to_csv(found).encode())
        write_whole(text, f"{to_markdown(found)}\n{told}\n".encode())
        if isinstance(ranks, Ranked):
            draw(ranks, picture)
    return 0


def check_digests(results: Sequence[Result]) -> None:
    """Refuse runs that say the same task, trial and seed of the split, but were made from other images.

    Raises:
        InputError: there are such runs, or some without digests; the sentence names them.
    """
    for task, members in sorted(by_task(results).items()):
        groups: dict[tuple[str, ...], list[Result]] = {}
        for result in members:
            if not all(result.params.get(key) for key in (SPLIT_DIGEST, DIGEST)):
                raise InputError(
                    f"{task}: {result.name} has no digests of split and test images: leave it out."
                )
            groups.setdefault(repeat_of(result)[:2], []).append(result)
        for (trial, seed), group in sorted(groups.items()):
            _check_alike(f"{task}, split.trial {trial}, split.seed {seed}", group)


def _check_alike(what: str, group: Sequence[Result]) -> None:
    for key, told in ((DIGEST, "test images"), (SPLIT_DIGEST, "split")):
        counts = Counter(result.params[key] for result in group)
        usual = counts.most_common(1)[0][0]
        if len(counts) == 1:
            continue
        like = next(result.name for result in group if result.params[key] == usual)
        others = [f"{result.name} ({result.params[key]})" for result in group if result.params[key] != usual]
        raise InputError(
            f"{what}: the {told} of {', '.join(others)} are not those of {like} ({usual}): leave one "
            "side out, by its source or with --where."
        )


def _without_local(params: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in params.items() if key not in LOCAL}


def _ranks(results: Sequence[Result], metric: str) -> Ranked | str:
    """Mean ranks, or why there are none."""
    try:
        return ranked(results, metric, significance=SIGNIFICANCE)
    except InputError as error:
        return f"No critical difference: {str(error).replace('--diagram', 'it')}"


def rank_lines(found: Ranked) -> Iterator[str]:
    """Mean ranks and the critical difference in words; methods of one group are not told apart."""
    from osr.plots.critical_difference import indistinguishable

    names = sorted(found.ranks, key=lambda name: found.ranks[name])
    yield (
        f"Mean ranks by {found.metric} in {found.num_runs} runs (Friedman's test: p = {found.p_value:.2g}): "
        + ", ".join(f"{name} {found.ranks[name]:.2f}" for name in names)
    )
    groups = indistinguishable([found.ranks[name] for name in names], found.critical_difference)
    alike = "; ".join(", ".join(names[first : last + 1]) for first, last in groups)
    yield (
        f"Critical difference {found.critical_difference:.2f} at {SIGNIFICANCE:g} (Nemenyi's test). Not told "
        f"apart: {alike or 'none'}."
    )


def _with_commands(table: Section, results: Sequence[Result]) -> Section:
    """The table with a note for the rows of each network: where they came from, and what runs them again."""
    members = by_task(results)[table.task]
    runs, _ = runs_of(members, table.metrics, differing(members))
    behind: dict[tuple[str, ...], tuple[list[str], list[Result]]] = {}
    for line in table.lines:
        of_method = list(runs[line.method].values())
        names = tuple(sorted(result.name for result in of_method))
        behind.setdefault(names, ([], of_method))[0].append(_label(line.method))
    current = _current()
    notes = [
        f"{', '.join(labels)}: {_origin(of_method)}. Again: {command}"
        for labels, of_method in behind.values()
        for command in commands(of_method, current)
    ]
    return replace(table, notes=(*table.notes, *notes))


def commands(of_method: Sequence[Result], current: Mapping[str, str]) -> list[str]:
    """The `dvc exp run` lines that queue runs of one method: one where trials and seeds are a whole grid.

    Args:
        of_method: its runs.
        current: the settings that need not be said, as text.
    """
    repeats = sorted({repeat_of(result) for result in of_method})
    values = [sorted(set(column), key=_number) for column in zip(*repeats, strict=True)]
    size = 1
    for column in values:
        size *= len(column)
    grids = [values] if size == len(repeats) else [[[value] for value in repeat] for repeat in repeats]
    params = {key: value for key, value in of_method[0].params.items() if key not in REPEATS}
    found = []
    for grid in grids:
        wanted = {
            key: ",".join(map(override, column))
            for key, column in zip(REPEATS, grid, strict=True)
            if len(column) > 1 or current.get(key) != column[0]
        }
        found.append(f"{queueing(params, wanted, current)} && dvc queue start".replace("  ", " "))
    return found


def _origin(of_method: Iterable[Result]) -> str:
    """Where runs came from, and their commits."""
    results = list(of_method)
    sources = dict.fromkeys(result.name.partition(": ")[0] for result in results)
    commits = dict.fromkeys(result.params.get(COMMIT, "unknown")[:8] for result in results)
    return f"from {', '.join(sources)}, commit {', '.join(commits)}"


def _label(method: Method) -> str:
    return method.detector or "all"


def _number(text: str) -> tuple[float, str]:
    return (float(text) if text.lstrip("-").isdigit() else 0.0, text)


def _current() -> dict[str, str]:
    """The settings of params.yaml here, or else of the one that is shipped, as text."""
    source = PARAMS if PARAMS.is_file() else shipped(str(PARAMS))
    return {key: str(value) for key, value in flatten(load_params(source)).items()}
