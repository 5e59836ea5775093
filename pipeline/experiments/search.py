"""Command search: Optuna varies settings, known classes that are held out in turn judge; no unknown is seen.

A study stands in Optuna's database: a search that was ended goes on when it is called again.
"""

from __future__ import annotations

import argparse
import io
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ruamel.yaml import YAML

from osr.data.chosen import ChosenImages
from osr.devices import set_cpu_threads
from osr.errors import InputError
from osr.held_out import HoldOut, Judged, hold_outs, judge, load_known
from osr.params import Params, check_params, flatten
from osr.settings.reading import read_yaml
from osr.stored.digests import code_digest
from pipeline.experiments.overrides import merge
from pipeline.experiments.preset import Settings
from pipeline.experiments.search_rows import SearchRows
from pipeline.experiments.space_file import Space, load_space
from pipeline.experiments.study import FOLDER, next_trial, open_study
from pipeline.workspace.files import read_json, write_json
from pipeline.workspace.place import workspace_root
from pipeline.workspace.stages import PARAMS

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

DEFAULT, REASON, AUROCS, ACCURACY = "default", "reason", "aurocs", "accuracy"

logger = logging.getLogger("osr.search")


@dataclass(frozen=True)
class Search:
    """What all trials share.

    Args:
        space: what is varied.
        ours: params.yaml.
        data: the images of known classes.
        trainings: by which each trial is judged.
        study: Optuna's.
    """

    space: Space
    ours: Settings
    data: ChosenImages
    trainings: Sequence[HoldOut]
    study: Study

    def params(self, settings: Settings) -> Params:
        """All settings of a trial.

        Raises:
            InputError: they do not go together.
        """
        return check_params(merge(self.ours, settings), source=f"{self.space.source}, a trial")

    def row_params(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of a trial, or those that were varied where they do not go together."""
        settings = self.space.settings(point)
        try:
            return flatten(self.params(settings))
        except InputError:
            return flatten(settings)


def run(options: argparse.Namespace) -> int:
    """Search, or go on with it, and print the best trial as a preset.

    Raises:
        InputError: Optuna or the database is missing, a fault of the space, images that cannot be read, or no
            trial that came to an end.
    """
    space, ours = load_space(options.space), read_yaml(PARAMS)
    params = check_params(merge(ours, space.common), source=f"{space.source}, settings")
    study = open_study(space, ours, options.storage)
    trials = space.rest.split_trials or (params.split.trial,)
    data = load_known(params, trials)
    trainings = hold_outs(params, data.class_names, trials=trials, parts=space.rest.parts)
    if space.rest.trainings != "all":
        trainings = trainings[: space.rest.trainings]
    set_cpu_threads(params.train.cpu_threads)
    search = Search(space, ours, data, trainings, study)
    begin(search, params)
    names = [training.name for training in trainings]
    with SearchRows(study.study_name, space.source, names, search.row_params) as rows:
        rows.mirror(study.trials)
        while _finished(study) < space.rest.trials:
            trial = next_trial(study, space.rest.seed)
            run_trial(search, trial)
            rows.mirror(study.trials)
        text = preset(search)
        rows.end(text, _summary(search))
    sys.stdout.write(text)
    return 0


def begin(search: Search, params: Params) -> None:
    """Let a new study begin with params.yaml itself."""
    if search.study.trials:
        logger.info("%s: going on after %d trials", search.study.study_name, _finished(search.study))
        return
    point = search.space.default(params)
    if point is None:
        logger.warning("%s does not lie in the space: no trial shows what it comes to", PARAMS)
        return
    search.study.enqueue_trial(point, user_attrs={DEFAULT: True}, skip_if_exists=True)


def run_trial(search: Search, trial: Trial) -> None:
    """Judge one point of the space; settings that do not go together, or diverge, are a trial that failed."""
    from optuna.trial import TrialState

    study, number = search.study, trial.number
    folder = workspace_root() / FOLDER / study.study_name / f"{number}-{code_digest()[:8]}"
    try:
        params = search.params(search.space.settings(_suggest(trial, search.space)))
        judged = _judged(search, trial, params, folder)
    except InputError as error:
        logger.warning("trial %d failed: %s", number, error)
        trial.set_user_attr(REASON, str(error)[:500])
        study.tell(trial, state=TrialState.FAIL)
        shutil.rmtree(folder, ignore_errors=True)
        return
    if judged is None:
        logger.info("trial %d pruned", number)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        value = _mean(judged)
        trial.set_user_attr(AUROCS, [one.auroc for one in judged])
        trial.set_user_attr(ACCURACY, float(np.mean([one.accuracy for one in judged])))
        logger.info("trial %d: AUROC %.4f %s", number, value, trial.params)
        study.tell(trial, value)
    shutil.rmtree(folder, ignore_errors=True)


def _judged(search: Search, trial: Trial, params: Params, folder: Path) -> list[Judged] | None:
    """All trainings of a trial, or None where it was pruned.

    They go together from one epoch of `prune_at` to the next, so that trials are compared by all of them.
    """
    frozen = search.study.trials[trial.number]
    stops = (
        [] if params.train.is_frozen else [e for e in search.space.rest.prune_at if e < params.train.epochs]
    )
    for epoch in stops:
        if epoch not in frozen.intermediate_values:
            trial.report(
                _mean([_one(search, params, each, folder, epoch) for each in search.trainings]), epoch
            )
        if trial.should_prune():
            return None
    return [_one(search, params, each, folder, None) for each in search.trainings]


def _one(search: Search, params: Params, training: HoldOut, folder: Path, until: int | None) -> Judged:
    """One training as it stands at an epoch; what an ended search has found is read."""
    kept = folder / f"{training.name}-{until or 'end'}.json"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        detector = search.space.rest.detector
        found = judge(params, search.data, training, folder=folder, detector=detector, until=until)
        write_json(kept, asdict(found))
    return Judged(**read_json(kept))


def _suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """The point that Optuna chooses."""
    point: dict[str, Any] = {}
    for key, numbers in space.ranges.items():
        if numbers.whole:
            step = 1 if numbers.step is None else int(numbers.step)
            point[key] = trial.suggest_int(
                key, int(numbers.low), int(numbers.high), step=step, log=numbers.log
            )
        else:
            ends = (numbers.low, numbers.high)
            point[key] = trial.suggest_float(key, *ends, step=numbers.step, log=numbers.log)
    for key, choices in space.choices.items():
        point[key] = trial.suggest_categorical(key, list(choices))
    return point


def preset(search: Search) -> str:
    """The best trial as the text of a file in presets/.

    Raises:
        InputError: no trial came to an end.
    """
    whole = _whole(search.study)
    if not whole:
        reasons = [trial.user_attrs[REASON] for trial in search.study.trials if REASON in trial.user_attrs]
        raise InputError(f"No trial of {search.space.source} came to an end; the first: {reasons[0]}")
    best = search.study.best_trial
    text = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(search.space.settings(best.params), text)
    return f"# {_summary(search)}\n{text.getvalue()}"


def _summary(search: Search) -> str:
    best, rest = search.study.best_trial, search.space.rest
    told = (
        f"{search.space.name}: trial {best.number} of {_finished(search.study)}, AUROC of {rest.detector} "
        f"against held-out known classes {best.value:.4f}"
    )
    default = next((trial for trial in _whole(search.study) if trial.user_attrs.get(DEFAULT)), None)
    if default is None or default.number == best.number:
        return told if default is None else f"{told}, which is {PARAMS} itself"
    gains = np.subtract(best.user_attrs[AUROCS], default.user_attrs[AUROCS])
    error = f" ± {gains.std(ddof=1) / len(gains) ** 0.5:.4f}" if len(gains) > 1 else ""
    return f"{told}; {PARAMS} {default.value:.4f}, {gains.mean():+.4f}{error} over {len(gains)} trainings"


def _whole(study: Study) -> list[FrozenTrial]:
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


def _finished(study: Study) -> int:
    return sum(trial.state.is_finished() for trial in study.trials)


def _mean(judged: Sequence[Judged]) -> float:
    return float(np.mean([one.auroc for one in judged]))
