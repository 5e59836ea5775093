"""Trials of a published protocol that were not run, and the commands that run them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from osr.splits.classes import FOLDER
from pipeline.comparing.grouping import REPEATS, by_task, differing, override
from pipeline.tracking.results import Result

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


def gaps(results: Sequence[Result]) -> list[Gap]:
    """For all settings and seeds that were run at all, the trials of the protocol that were not."""
    found = []
    for task, members in sorted(by_task(results).items()):
        keys = (*differing(members), *(key for key in SEEDS if len({r.params.get(key) for r in members}) > 1))
        groups: dict[str, list[Result]] = {}
        for result in members:
            settings = ", ".join(f"{key}={result.params.get(key, '–')}" for key in keys)
            groups.setdefault(settings, []).append(result)
        for settings, group in groups.items():
            run = {result.params.get(TRIAL) for result in group}
            lacking = [trial for trial in range(num_trials(group[0].params)) if str(trial) not in run]
            if lacking:
                found.append(Gap(task, settings, tuple(lacking), group[0]))
    return found


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
