"""Named sweeps, sweeps/NAME.yaml: the experiments behind a published table, as one short command."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from osr.params import check_params, flatten
from osr.settings.gone import GONE
from osr.settings.reading import read_yaml
from pipeline.experiments.identity import decides
from pipeline.experiments.named import list_of
from pipeline.experiments.overrides import merge, nested
from pipeline.experiments.preset import Settings, assignments
from pipeline.experiments.programs import finished
from pipeline.experiments.submit import submit
from pipeline.experiments.sweep_file import FOLDER, Sweep, load_sweep
from pipeline.experiments.waiting import told, waiting
from pipeline.tracking.results import Result, read_workspace
from pipeline.workspace.place import workspace_root
from pipeline.workspace.stages import PARAMS

SHOWN = 3  # settings

logger = logging.getLogger("osr.sweep")


def missing(sweep: Sweep, results: Iterable[Result]) -> list[Settings]:
    """The experiments that no result answers.

    An experiment is params.yaml with what the sweep sets. A result answers it when all params are the same
    that the sweep sets or that decide (see `pipeline.experiments.identity`). A result that lacks a key is
    older than the key: it counts as run with the value in params.yaml, but not when the sweep sets the key.
    A setting that is gone must have had the value that holds now; what else a result holds beyond the keys
    of params.yaml is not looked at.
    """
    held = [result.params for result in results]
    return [
        experiment
        for experiment, wanted, said in _wanted(sweep)
        if not any(_answers(row, wanted, said) for row in held)
    ]


def run_otherwise(sweep: Sweep, results: Iterable[Result]) -> str:
    """Which experiments were run with other settings alone, and with which; empty where there is none.

    Such a run has all that the sweep sets, on the same data, but not all that decides: it may have been
    queued with `-S`.
    """
    held = [result.params for result in results]
    number, settings = 0, dict[str, str]()
    for _, wanted, said in _wanted(sweep):
        if any(_answers(row, wanted, said) for row in held):
            continue
        asked = {key: value for key, value in wanted.items() if key in said or key == "dataset.name"}
        if like := [row for row in held if _answers(row, asked, asked)]:
            number += 1
            nearest = min((_differing(row, wanted) for row in like), key=len)
            settings |= nearest
    if not settings:
        return ""
    shown = ", ".join(f"{key}={value}" for key, value in sorted(settings.items(), reverse=True)[:SHOWN])
    return f"with others, such as {shown}: {number} of them (give the same -S)"


def _wanted(sweep: Sweep) -> Iterator[tuple[Settings, dict[str, str], Container[str]]]:
    """Each experiment with all params that make it up, as text, and the keys that it sets itself."""
    ours = read_yaml(PARAMS)
    for experiment in sweep.experiments():
        params, said = check_params(merge(ours, experiment), source=sweep.name), flatten(experiment).keys()
        values = flatten(params)
        values |= {key: values.get(gone.instead, gone.value) for key, gone in GONE.items()}
        yield (
            experiment,
            {key: str(value) for key, value in values.items() if key in said or decides(key, params)},
            said,
        )


def commands(sweep: Sweep) -> list[list[str]]:
    """One `dvc exp run --queue` per variant; DVC runs through the grid."""
    lines = []
    for variant in sweep.variants:
        fixed = merge(sweep.common, nested(variant))
        steps = [_choices(key, values) for key, values in sweep.grid.items()]
        swept = set(sweep.grid)
        flags = [text for text in assignments(fixed) if text.partition("=")[0] not in swept]
        lines.append(_queue([*flags, *steps]))
    return lines


def run(options: argparse.Namespace) -> int:
    """Command sweep: print or queue the experiments, or list the sweeps; the status is DVC's.

    Raises:
        InputError: no such sweep, or a file or setting of it is bad.
    """
    if options.list:
        sys.stdout.write(list_of(FOLDER))
        return 0
    sweep = load_sweep(options.name, options.overrides, options.variant)
    experiments = sweep.experiments()
    lacking = experiments
    if options.missing or options.queue:
        lacking = _lacking(sweep, also_done=options.missing)
    if not lacking:
        return 0
    if options.submit:
        return submit(sweep.name, lacking, options)
    in_grids = lacking == experiments and not options.missing
    lines = commands(sweep) if in_grids else [_queue(assignments(one)) for one in lacking]
    return _run(lines) if options.queue else _print(lines)


def _lacking(sweep: Sweep, *, also_done: bool) -> list[Settings]:
    """The experiments to be queued: those that neither run here nor wait in DVC's queue.

    Args:
        sweep: all of them.
        also_done: those that have a result are left out, too.
    """
    root = workspace_root()
    stored = read_workspace(root)
    done = stored.done if also_done else []
    lacking = missing(sweep, done)
    if otherwise := run_otherwise(sweep, done):
        logger.warning("%d experiments not run with exactly these settings; %s.", len(lacking), otherwise)
    if not lacking:
        sys.stdout.write("# no experiment is missing\n")
        return lacking
    planned = waiting(root, stored)
    of_sweep = [one.name for one in planned if len(missing(sweep, [one])) < len(sweep.experiments())]
    if of_sweep:
        logger.info("not to be queued again: %s.", told(of_sweep))
    return missing(sweep, [*done, *planned])


def _answers(row: Mapping[str, str], wanted: Mapping[str, str], needed: Container[str]) -> bool:
    """Whether a row's params are the wanted ones; it may lack those that are not needed."""
    return all(_same(row[key], value) if key in row else key not in needed for key, value in wanted.items())


def _differing(row: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """What a row holds where it is not what is wanted."""
    return {key: row[key] for key, value in wanted.items() if key in row and not _same(row[key], value)}


def _same(held: str, wanted: str) -> bool:
    """Whether a row holds this text; of a long one it holds the beginning and an ellipsis."""
    return held == wanted or (held.endswith("…") and wanted.startswith(held[:-1]))


def _print(lines: Sequence[Sequence[str]]) -> int:
    sys.stdout.writelines(f"{shlex.join(line)}\n" for line in lines)
    return 0


def _run(lines: Sequence[Sequence[str]]) -> int:
    for line in lines:
        status = finished([sys.executable, "-m", *line])
        if status:
            return status
    return 0


def _queue(flags: Sequence[str]) -> list[str]:
    return ["dvc", "exp", "run", "--queue", *(part for flag in flags for part in ("-S", flag))]


def _choices(key: str, values: Sequence[Any]) -> str:
    """`key=a,b`: DVC makes one experiment for each."""
    texts = [assignments(nested({key: value}))[0].partition("=")[2] for value in values]
    return f"{key}={','.join(texts)}"
