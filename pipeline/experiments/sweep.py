"""Named sweeps, sweeps/NAME.yaml: the experiments behind a published table, as one short command."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from osr.params import check_params, flatten
from osr.settings.reading import read_yaml
from pipeline.experiments.identity import decides
from pipeline.experiments.named import list_of
from pipeline.experiments.overrides import merge, nested
from pipeline.experiments.preset import Settings, assignments
from pipeline.experiments.programs import finished
from pipeline.experiments.submit import submit
from pipeline.experiments.sweep_file import FOLDER, Sweep, load_sweep
from pipeline.tracking.results import Result, read_store
from pipeline.tracking.store import connect
from pipeline.workspace.place import workspace_root
from pipeline.workspace.stages import PARAMS


def missing(sweep: Sweep, results: Iterable[Result]) -> list[Settings]:
    """The experiments that no result answers.

    An experiment is params.yaml with what the sweep sets. A result answers it when all params are the same
    that the sweep sets or that decide (see `pipeline.experiments.identity`). A result that lacks a key is
    older than the key: it counts as run with the value in params.yaml, but not when the sweep sets the key.
    What a result holds beyond the keys of params.yaml is not looked at.
    """
    held = [result.params for result in results]
    ours = read_yaml(PARAMS)
    lacking = []
    for experiment in sweep.experiments():
        params, said = check_params(merge(ours, experiment), source=sweep.name), flatten(experiment).keys()
        values = flatten(params).items()
        wanted = {key: str(value) for key, value in values if key in said or decides(key, params)}
        if not any(_answers(row, wanted, said) for row in held):
            lacking.append(experiment)
    return lacking


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
    lacking = (
        missing(sweep, read_store(connect(workspace_root()))) if options.missing else sweep.experiments()
    )
    if options.submit:
        return submit(sweep.name, lacking, options)
    lines = commands(sweep)
    if options.missing:
        lines = [_queue(assignments(experiment)) for experiment in lacking]
    return _run(lines) if options.queue else _print(lines)


def _answers(row: Mapping[str, str], wanted: Mapping[str, str], needed: Container[str]) -> bool:
    """Whether a row's params are the wanted ones; it may lack those that are not needed."""
    return all(_same(row[key], value) if key in row else key not in needed for key, value in wanted.items())


def _same(held: str, wanted: str) -> bool:
    """Whether a row holds this text; of a long one it holds the beginning and an ellipsis."""
    return held == wanted or (held.endswith("…") and wanted.startswith(held[:-1]))


def _print(lines: Sequence[Sequence[str]]) -> int:
    texts = [shlex.join(line) for line in lines] or ["# no experiment is missing"]
    sys.stdout.write("\n".join(texts) + "\n")
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
