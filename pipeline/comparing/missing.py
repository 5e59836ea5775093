"""Trials of a published protocol that were not run, and the commands that run them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from osr.errors import InputError
from osr.params import flatten, load_params
from osr.splits.classes import FOLDER
from pipeline.comparing.conditions import override, value_of_text
from pipeline.comparing.grouping import ENABLED, REPEATS, by_task, differing
from pipeline.experiments.named import names_in
from pipeline.experiments.sweep import missing, run_otherwise
from pipeline.experiments.sweep_file import FOLDER as SWEEPS
from pipeline.experiments.sweep_file import load_sweep
from pipeline.experiments.waiting import told
from pipeline.tracking.results import Result
from pipeline.workspace.stages import PARAMS

TRIAL, *SEEDS = REPEATS


@dataclass(frozen=True)
class Gap:
    """Trials that runs of the same settings and seeds lack.

    Args:
        task: data set and protocol.
        settings: what sets these runs apart from others of the task; empty when there are no others.
        trials: the missing ones, rising.
        like: one of these runs.
    """

    task: str
    settings: str
    trials: tuple[int, ...]
    like: Result


def gaps(results: Sequence[Result], others: Sequence[Result] = ()) -> list[Gap]:
    """For all settings and seeds of the results, the trials of the protocol that were not run.

    Args:
        results: of whose settings and seeds trials are looked for.
        others: runs that may be these trials, those to come among them.
    """
    found = []
    every = by_task([*results, *others])
    for task, members in sorted(by_task(results).items()):
        keys, apart = _keys(every[task]), _keys(members)
        alike: dict[tuple[str, ...], list[Result]] = {}
        for result in every[task]:
            alike.setdefault(_values(result, keys), []).append(result)
        likes: dict[tuple[str, ...], Result] = {}
        for result in members:
            likes.setdefault(_values(result, (*keys, ENABLED)), result)
        if len({values[:-1] for values in likes}) < len(likes):
            apart = (*apart, ENABLED)
        for like in likes.values():
            run = {one.params.get(TRIAL) for one in alike[_values(like, keys)] if _has_all_of(one, like)}
            lacking = [trial for trial in range(num_trials(like.params)) if str(trial) not in run]
            if lacking:
                settings = ", ".join(f"{key}={_shown(like, key)}" for key in apart)
                found.append(Gap(task, settings, tuple(lacking), like))
    return found


def _keys(members: Sequence[Result]) -> tuple[str, ...]:
    """What sets these runs apart, seeds among it; detectors aside."""
    return (
        *differing(members),
        *(key for key in SEEDS if len({run.params.get(key) for run in members}) > 1),
    )


def _values(result: Result, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(result.params.get(key, "–") for key in keys)


def _shown(result: Result, key: str) -> str:
    """A setting as `--where` and `-S` take it."""
    return (
        override(result.params[key]) if key == ENABLED and key in result.params else _values(result, [key])[0]
    )


def _has_all_of(run: Result, like: Result) -> bool:
    """Whether a run judged with all the detectors of another."""
    one, other = (value_of_text(result.params.get(ENABLED, "[]")) for result in (run, like))
    return set(other) <= set(one) if isinstance(one, list) and isinstance(other, list) else one == other


def num_trials(params: Mapping[str, str]) -> int:
    """How many trials the protocol has on the data set; 0 where it has no list of trials."""
    path = FOLDER / f"{params.get('split.protocol')}.json"
    if not path.is_file():
        return 0
    lists_of = params.get("split.lists_of", "auto")
    name = params.get("dataset.name") if lists_of == "auto" else lists_of
    lists = json.loads(path.read_text(encoding="utf-8")).get(name, [])
    return len(lists) if isinstance(lists, list) else 0


def command(gap: Gap, current: Mapping[str, str]) -> str:
    """The `dvc exp run` line that queues the missing trials.

    Args:
        gap: from `gaps`.
        current: the params of params.yaml as text; what agrees with them need not be said.
    """
    return queueing(gap.like.params, {TRIAL: ",".join(map(str, gap.trials))}, current)


def queueing(params: Mapping[str, str], wanted: Mapping[str, str], current: Mapping[str, str]) -> str:
    """The `dvc exp run` line that queues runs.

    Args:
        params: of one of them, as MLflow has them.
        wanted: settings instead of these, as DVC reads them; several values with commas between.
        current: see `command`.
    """
    differ = {key: value for key, value in params.items() if current.get(key, value) != value}
    wanted = {**{key: override(value) for key, value in differ.items()}, **wanted}
    settings = " ".join(f"-S {shlex.quote(f'{key}={value}')}" for key, value in sorted(wanted.items()))
    return f"dvc exp run --queue {settings}"


def print_missing(results: Sequence[Result], waiting: Sequence[str], all_of: Sequence[Result]) -> None:
    """The commands of missing trials, and as comments, which a shell passes over, those of named sweeps.

    Args:
        results: those that are asked about, with those to come of what runs or waits.
        waiting: the names of the latter.
        all_of: all there are and that are to come, which tell what was not run.
    """
    current = {key: str(value) for key, value in flatten(load_params(PARAMS)).items()}
    none = "# no trial is missing" if results else "# no run has test metrics yet"
    lines = [command(gap, current) for gap in gaps(results, all_of)] or [none]
    if waiting:
        lines.append(f"# {told(waiting)}")
    sys.stdout.write("\n".join([*lines, *_sweeps_missing(all_of)]) + "\n")


def _sweeps_missing(results: Sequence[Result]) -> Iterator[str]:
    """What is missing of the sweeps that were begun, and the names of those that were not."""
    not_begun = []
    for name in names_in(SWEEPS):
        try:
            sweep = load_sweep(name)
        except InputError as error:  # published sweeps need not go with settings of other data
            yield f"# sweep {name} does not go with these settings: {str(error).splitlines()[0]}"
            continue
        lacking, number = len(missing(sweep, results)), len(sweep.experiments())
        otherwise = run_otherwise(sweep, results)
        if otherwise:
            not_run = f"{lacking} of {number} experiments not run"
            yield f"# sweep {name}, {not_run} with exactly its settings; {otherwise}"
        elif lacking == number:
            not_begun.append(name)
        elif lacking:
            whole = f"{lacking} of {number} experiments not run"
            yield f"# sweep {name}, {whole}: osr sweep {name} --missing --queue"
    if not_begun:
        yield f"# sweeps of which nothing was run (osr sweep NAME --queue): {', '.join(not_begun)}"
