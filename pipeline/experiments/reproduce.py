"""Command reproduce: make a published result anew in a clone of its own, and compare."""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from osr.errors import InputError
from osr.params import Params, check_params
from osr.settings.reading import read_yaml
from osr.stored.digests import digest_of
from pipeline.experiments.clean_clone import FOLDER, clone_of, environment_of, present_commit
from pipeline.experiments.ledger import LEDGER, NETWORK, Entry, Number, Printed, Verdict, load_ledger
from pipeline.experiments.ledger_page import page
from pipeline.experiments.overrides import merge
from pipeline.experiments.preset import Settings, assignments
from pipeline.experiments.programs import finished
from pipeline.experiments.reproduce_tables import reproduced
from pipeline.experiments.sweep_file import Sweep, load_sweep, make_sweep
from pipeline.workspace.files import read_json, write_json
from pipeline.workspace.stages import PARAMS, SPLIT, STAGES

logger = logging.getLogger("osr.reproduce")


def run(options: argparse.Namespace) -> int:
    """Reproduce a result, or tell which there are; status 1 where a number is not met.

    Raises:
        InputError: no such result, a file that it needs is not here, a setting is bad, or a run failed.
    """
    ledger = load_ledger()
    if options.page:
        sys.stdout.write(page(ledger))
        return 0
    if options.list:
        rows = (f"{name}: {entry.title} ({entry.minutes:g} min)\n" for name, entry in ledger.every().items())
        sys.stdout.write("".join(rows))
        return 0
    entry = ledger.entry(options.name)
    if isinstance(entry, Printed):
        return _tables(options, entry)
    experiments = experiments_of(options.name, entry, options.overrides)
    results = list(_results(options.name, experiments, "prepare-split" if options.split else "evaluate"))
    same = _same_splits(entry, [result["split"] for result in results])
    if options.split:
        if same and entry.splits:
            sys.stdout.write(
                f"{len(results)} of {len(results)} runs have the published images and division\n"
            )
        return 0 if same else 1
    verdicts = compare(entry, [result["metrics"] for result in results])
    sys.stdout.write(table(verdicts))
    return 0 if same and all(verdict.holds for verdict in verdicts) else 1


def _tables(options: argparse.Namespace, entry: Printed) -> int:
    if options.split or options.overrides:
        raise InputError(
            f"{options.name} is a table of {entry.page}: --split and -S are for runs of the stages."
        )
    verdicts = reproduced(options.name, entry)
    sys.stdout.write(table(verdicts))
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def experiments_of(name: str, entry: Entry, overrides: Sequence[str] = ()) -> list[Settings]:
    """What each run of the entry changes in params.yaml; files of this folder with their whole paths.

    Raises:
        InputError: a sweep or setting is bad, or a file that a run needs is missing.
    """
    return [_with_files(name, experiment) for experiment in sweep_of(name, entry, overrides).experiments()]


def sweep_of(name: str, entry: Entry, overrides: Sequence[str] = ()) -> Sweep:
    """The runs of an entry.

    Raises:
        InputError: a sweep or setting is bad.
    """
    chosen = [*(f"{key}={value}" for key, value in entry.only.items()), *overrides]
    if entry.sweep is not None:
        return load_sweep(entry.sweep, chosen, entry.variant)
    return make_sweep(name, entry.runs, Path(f"{LEDGER}, {name}.runs"), chosen)


def compare(entry: Entry, metrics: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Each number of the entry beside the mean of it over the runs.

    Args:
        entry: of the ledger.
        metrics: metrics/evaluate.json of each run.
    """
    return [Verdict(number, _mean(number, metrics), entry.tolerance) for number in entry.parsed()]


def table(verdicts: Sequence[Verdict]) -> str:
    """A line per number, and what comes of it."""
    lines = []
    for verdict in verdicts:
        number, found = verdict.number, verdict.found
        told = "none" if found is None else f"{found:.4f}"
        word = "within" if verdict.holds else "NOT within"
        lines.append(
            f"{number.name:<44} published {number.value:.4f}   here {told:>8}   {word} {verdict.tolerance:g}"
        )
    failed = sum(not verdict.holds for verdict in verdicts)
    lines.append(f"{len(verdicts) - failed} of {len(verdicts)} numbers met")
    return "\n".join(lines) + "\n"


def _with_files(name: str, experiment: Settings) -> Settings:
    """The settings with whole paths: the clone has neither data nor weights.

    Raises:
        InputError: a file is missing here.
    """
    params = check_params(merge(read_yaml(PARAMS), experiment), source=str(PARAMS))
    changed: Settings = {"dataset": {"root": str(Path(params.dataset.root).absolute())}}
    needed = _data_files(params)
    if params.model.backbone.weights not in ("none", "pretrained"):
        weights = Path(params.model.backbone.weights).absolute()
        changed["model"] = {"backbone": {"weights": str(weights)}}
        needed.append(weights)
    for path in needed:
        if not path.exists():
            raise InputError(
                f"{name} needs {path}, which is not here: put it there, or name its place with "
                "-S dataset.root=… or -S model.backbone.weights=…."
            )
    return merge(experiment, changed)


def _data_files(params: Params) -> list[Path]:
    return [Path(params.dataset.root) / params.dataset.arrays.file] if params.dataset.name == "arrays" else []


def _results(name: str, experiments: Sequence[Settings], stage: str) -> Iterator[dict[str, Any]]:
    """What each run came to; those that an earlier call has finished at this commit are read."""
    commit = present_commit()
    for number, experiment in enumerate(experiments, start=1):
        kept = FOLDER / name / f"{digest_of([commit, stage, experiment])}.json"
        if not kept.is_file():
            logger.info("%s: run %d of %d", name, number, len(experiments))
            write_json(kept, _run(name, commit, experiment, stage))
        yield read_json(kept)


def _run(name: str, commit: str, experiment: Settings, stage: str) -> dict[str, Any]:
    """Run the stages in the clone of this result.

    Raises:
        InputError: they failed; what they said stands above.
    """
    clone = clone_of(name, commit)
    flags = [part for text in assignments(experiment) for part in ("-S", text)]
    command = [sys.executable, "-m", "pipeline.cli", "run", stage, *flags]
    if finished(command, environment_of(clone), cwd=clone):
        raise InputError(
            f"{name}: the run in {clone} failed, as said above; `osr reproduce {name}` goes on with it."
        )
    metrics = {} if stage == "prepare-split" else read_json(clone / STAGES["evaluate"].metrics)
    return {
        "settings": experiment,
        "split": read_json(clone / SPLIT / "split.json")["digest"],
        "metrics": metrics,
    }


def _same_splits(entry: Entry, splits: Sequence[str]) -> bool:
    """Whether the runs had the images and the division that were published; says which had not."""
    if not entry.splits:
        logger.warning("the published runs did not note their splits; these are %s", ", ".join(splits))
        return True
    for number, (found, told) in enumerate(zip(splits, entry.splits, strict=True), start=1):
        if found != told:
            logger.error(
                "run %d: other images or another division (split %s, published %s)", number, found, told
            )
    return tuple(splits) == entry.splits


def _mean(number: Number, metrics: Sequence[Mapping[str, Any]]) -> float | None:
    values = [_value(number, found) for found in metrics]
    held = [value for value in values if value is not None]
    return statistics.fmean(held) if len(held) == len(values) else None


def _value(number: Number, metrics: Mapping[str, Any]) -> float | None:
    held: Any = metrics
    path = number.metric.split("/") if number.owner == NETWORK else [*number.metric.split("/"), number.owner]
    for part in path:
        held = held.get(part) if isinstance(held, Mapping) else None
    return held if isinstance(held, float | int) else None
