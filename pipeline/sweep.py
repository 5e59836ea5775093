"""Named sweeps, sweeps/NAME.yaml: the experiments behind a published table, as one short command.

python -m pipeline.sweep NAME                                  # print the `dvc exp run --queue` lines
python -m pipeline.sweep NAME --queue && dvc queue start --jobs 2
python -m pipeline.sweep NAME --missing --queue                # only what MLflow holds no finished run of
python -m pipeline.sweep NAME --queue -S train.epochs=2        # with other settings
python -m pipeline.sweep NAME --queue -S split.trial=1         # one value instead of those in the grid
"""

from __future__ import annotations

import argparse
import logging
import shlex
import subprocess
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from osr.config import check_params, flatten, read_yaml
from osr.errors import InputError
from pipeline.grouping import decides
from pipeline.named import list_of
from pipeline.overrides import merge, nested
from pipeline.preset import Settings, assignments
from pipeline.results import Result, read_store
from pipeline.stages import PARAMS
from pipeline.store import connect, workspace_root
from pipeline.sweep_file import FOLDER, Sweep, load_sweep


def missing(sweep: Sweep, results: Iterable[Result]) -> list[Settings]:
    """The experiments that no result answers.

    An experiment is params.yaml with what the sweep sets. A result answers it when all params are the same
    that the sweep sets or that decide (`pipeline.grouping.decides`). A result that lacks a key is older than
    the key: it counts as run with the value in params.yaml, but not when the sweep sets the key. What a
    result holds beyond the keys of params.yaml is not looked at.
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the status is DVC's."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.sweep", description="Print or queue the experiments of a published table."
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a file in sweeps/")
    parser.add_argument("--list", action="store_true", help="print the sweeps there are")
    parser.add_argument("--queue", action="store_true", help="queue the experiments instead of printing")
    parser.add_argument("--missing", action="store_true", help="only those without a finished run in MLflow")
    parser.add_argument("-S", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    if not options.list and options.name is None:
        parser.error("name a sweep, or ask for --list")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        if options.list:
            sys.stdout.write(list_of(FOLDER))
            return 0
        sweep = load_sweep(options.name, options.overrides)
        lines = commands(sweep)
        if options.missing:
            lacking = missing(sweep, read_store(connect(workspace_root())))
            lines = [_queue(assignments(experiment)) for experiment in lacking]
    except InputError as error:
        sys.stderr.write(f"ERROR: {error}\n")
        return 1
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
        status = subprocess.run([sys.executable, "-m", *line], check=False).returncode
        if status:
            return status
    return 0


def _queue(flags: Sequence[str]) -> list[str]:
    return ["dvc", "exp", "run", "--queue", *(part for flag in flags for part in ("-S", flag))]


def _choices(key: str, values: Sequence[Any]) -> str:
    """`key=a,b`: DVC makes one experiment for each."""
    texts = [assignments(nested({key: value}))[0].partition("=")[2] for value in values]
    return f"{key}={','.join(texts)}"


if __name__ == "__main__":
    sys.exit(main())
