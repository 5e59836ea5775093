"""Named sweeps, sweeps/NAME.yaml: the experiments behind a published table, as one short command.

python -m pipeline.sweep NAME                                  # print the `dvc exp run --queue` lines
python -m pipeline.sweep NAME --queue && dvc queue start --jobs 2
python -m pipeline.sweep NAME --missing --queue                # only what MLflow holds no finished run of
python -m pipeline.sweep NAME --queue -S train.epochs=2        # with other settings
"""

from __future__ import annotations

import argparse
import itertools
import logging
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osr.config import check_params, flatten, read_yaml
from osr.errors import InputError
from pipeline.named import list_of, read_named
from pipeline.overrides import merge, nested, parse_overrides
from pipeline.preset import Settings, assignments, load_presets
from pipeline.results import Result, read_store
from pipeline.stages import PARAMS
from pipeline.store import connect, workspace_root

FOLDER = Path("sweeps")
KEYS = ("presets", "settings", "variants", "grid")


@dataclass(frozen=True)
class Sweep:
    """The experiments of a table.

    Args:
        name: of the file.
        common: settings of all experiments, nested like params.yaml.
        variants: dotted key -> value, what each method of the table adds.
        grid: dotted key -> values, whose combinations every variant runs through.
    """

    name: str
    common: Settings
    variants: tuple[Mapping[str, Any], ...]
    grid: Mapping[str, Sequence[Any]]

    def experiments(self) -> list[Settings]:
        """What each experiment changes in params.yaml, nested, in the order of variants and grid."""
        points = [
            dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())
        ]
        return [
            merge(merge(self.common, nested(variant)), nested(point))
            for variant in self.variants
            for point in points
        ]


def load_sweep(name: str, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep and check each of its experiments.

    Args:
        name: of a file in sweeps/, without .yaml.
        overrides: `key=value`, for all experiments.

    Raises:
        InputError: no such sweep, a key it must not have, or an experiment that breaks the schema.
    """
    path, content = read_named(FOLDER, name, kind="sweep")
    if not isinstance(content, dict) or not set(content) <= set(KEYS) or not content.get("grid"):
        raise InputError(f"{path} must hold a grid, and may hold {', '.join(KEYS[:-1])}; nothing else.")
    common = merge(load_presets(content.get("presets", [])), nested(content.get("settings", {})))
    common = merge(common, parse_overrides(overrides))
    variants = tuple(content.get("variants", [{}]))
    sweep = Sweep(name, common, variants, content["grid"])
    ours = read_yaml(PARAMS)
    for experiment in sweep.experiments():
        check_params(merge(ours, experiment), source=f"{PARAMS} with sweep {name}")
    return sweep


def missing(sweep: Sweep, results: Iterable[Result]) -> list[Settings]:
    """The experiments that no result has the settings of."""
    held = [result.params for result in results]
    ours = read_yaml(PARAMS)
    lacking = []
    for experiment in sweep.experiments():
        checked = flatten(check_params(merge(ours, experiment), source=sweep.name))
        wanted = {key: str(checked[key]) for key in flatten(experiment) if key in checked}
        if not any(all(params.get(key) == value for key, value in wanted.items()) for params in held):
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
