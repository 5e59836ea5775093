"""Recipes judged by known classes that are held out in turn: no unknown class is looked at, nor a test image.

The network learns the known classes but for some, from their training images, and is judged on its validation
images against those that were held out, which play unknown. Unlike in `osr.estimation`, the network has never
seen them. Higher score = more unknown, higher AUROC = better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from osr.data.batches import Images
from osr.data.chosen import ChosenImages, load_classes
from osr.data.labelled import labelled, sample_of
from osr.data.plans import hash_seed
from osr.detectors.base import Detector
from osr.detectors.registry import build_detectors, network_again_of
from osr.devices import pick_device
from osr.errors import InputError
from osr.held_out_training import probe_head, train_network
from osr.inference.extraction import extract
from osr.losses.registry import check_background
from osr.metrics.open_set import open_set_metrics
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import format_for, frame_for, needs_statistics
from osr.outputs import BACKGROUND, IntArray, Outputs
from osr.params import Params
from osr.splits.classes import choose_classes
from osr.splits.division import make_split, thinned
from osr.splits.split import Split


@dataclass(frozen=True)
class HoldOut:
    """One training of a comparison.

    Args:
        name: `3.0` is trial 3 of the class splits, and the first part of its known classes.
        known: ids of the classes that are learned, in label order.
        held_out: ids of the known classes that play unknown.
        background: ids of the background classes.
    """

    name: str
    known: tuple[int, ...]
    held_out: tuple[int, ...]
    background: tuple[int, ...]


@dataclass(frozen=True)
class Judged:
    """What a training came to.

    Args:
        accuracy: of the learned classes, on their validation images.
        auroc: of these against the images of the classes that were held out.
    """

    accuracy: float
    auroc: float


def load_known(params: Params, trials: Sequence[int]) -> ChosenImages:
    """The images of known and background classes, outside of a published test part.

    Files of unknown classes, of `dataset.unknown_sources` and of a published test part are not opened.

    Args:
        params: `dataset` and `split` count.
        trials: of the class splits, each with known classes of its own.

    Raises:
        InputError: no such classes or trial, or images that cannot be read.
    """

    def choose(class_names: Sequence[str]) -> set[int]:
        chosen = [_classes(params, class_names, trial) for trial in trials]
        return {number for known, background in chosen for number in (*known, *background)}

    return load_classes(params.dataset, choose)


def hold_outs(
    params: Params, class_names: Sequence[str], *, trials: Sequence[int], parts: int
) -> list[HoldOut]:
    """The trainings: each known class is held out once in each trial; the first of every trial come first.

    Args:
        params: `dataset` and `split` count.
        class_names: the name of each class id.
        trials: of the class splits.
        parts: into how many the known classes of a trial are cut, in label order.

    Raises:
        InputError: fewer classes than parts, or fewer than two to learn beside a part.
    """
    chosen = {trial: _classes(params, class_names, trial) for trial in trials}
    found = []
    for part in range(parts):
        for trial, (known, background) in chosen.items():
            cut = np.array_split(known, parts)
            if parts < 2 or len(known) < parts or len(known) - len(cut[0]) < 2:
                raise InputError(
                    f"{len(known)} known classes cannot be held out in {parts} parts: each needs one at "
                    "least, and two must remain beside it."
                )
            held_out = tuple(cut[part].tolist())
            learned = tuple(number for number in known if number not in held_out)
            found.append(HoldOut(f"{trial}.{part}", learned, held_out, background))
    return found


def _classes(
    params: Params, class_names: Sequence[str], trial: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    settings = params.split.model_copy(update={"trial": trial})
    classes = choose_classes(settings, params.dataset.name, class_names, has_other_unknowns=True)
    return classes.known, classes.background


def judge(
    params: Params,
    data: ChosenImages,
    hold_out: HoldOut,
    *,
    folder: Path,
    detector: str = "maxlogit",
    until: int | None = None,
) -> Judged:
    """Train without some known classes, and tell the others from them.

    Args:
        params: all settings; those of data and split must be those of `data` and `hold_out`.
        data: of `load_known`.
        hold_out: which classes.
        folder: keeps the state of the training after each epoch; a call with the same settings goes on.
        detector: whose score tells them apart.
        until: the epoch after which a training that has more to come is judged, by its best epoch so far;
            None trains to the end.

    Raises:
        InputError: `train.regime` is none, or the settings do not fit the data, or training diverged.
    """
    split, rows = held_out_split(params, data, hold_out)
    state = folder / f"{hold_out.name}.pt"
    return judge_split(params, data, split, rows, state=state, detectors=(detector,), until=until)[detector]


def judge_split(
    params: Params,
    data: ChosenImages,
    split: Split,
    rows: IntArray,
    *,
    state: Path,
    detectors: Sequence[str] = ("maxlogit",),
    until: int | None = None,
) -> dict[str, Judged]:
    """Train on a split as stage train does, and tell known images from unknown ones; see `judge`.

    Args:
        params: all settings.
        data: whose images `split` divides.
        split: of it.
        rows: (N,) int64, the images that are judged.
        state: file of the training's state.
        detectors: whose scores tell them apart, each alone.
        until: an epoch, or None.

    Returns:
        By detector.

    Raises:
        InputError: as `judge`.
    """
    model = _new_model(params, data, split)

    def part(rows: IntArray) -> Images:
        frame, workers = model.image_format.frame, params.train.num_workers
        return labelled(data.images, data.places[rows], split.labels[rows], frame=frame, num_workers=workers)

    if params.train.regime == "probe":
        probe_head(model, part(split.train), part(split.known_rows("val")), params)
    elif params.train.regime == "none":
        raise InputError("train.regime is 'none', but must be another: nothing would be learned.")
    else:
        train_network(model, part(split.train), part(split.known_rows("val")), params, state, until)

    judging = build_detectors(params.detectors.model_copy(update={"enabled": tuple(detectors)}))

    def outputs(rows: IntArray) -> Outputs:
        return extract(
            model,
            part(rows),
            index=rows,
            batch_size=params.extraction.batch_size,
            device=pick_device(params.train.accelerator),
            title="judge",
            again=network_again_of(*judging.values()),
        )

    if any(detector.needs_fit for detector in judging.values()):
        learned = outputs(split.train)
        judging = {name: one.fit(learned) if one.needs_fit else one for name, one in judging.items()}
    return _judged(judging, outputs(rows))


def _new_model(params: Params, data: ChosenImages, split: Split) -> OpenSetModel:
    """The network that learns, with the initial weights of stage train.

    Raises:
        InputError: the loss cannot learn from these images.
    """
    settings, pseudo = params.model, params.train.augmentation.pseudo_unknowns != "none"
    num_background = int((split.labels[split.train] == BACKGROUND).sum())
    check_background(params.train.loss, num_background, pseudo_unknowns=pseudo)
    torch.manual_seed(hash_seed(params.train.seed, -1))
    seen = split.train if needs_statistics(settings) else split.train[:1]
    sample = sample_of(data.images, data.places[seen], lambda: frame_for(settings, None))
    return OpenSetModel(settings, format_for(settings, sample), split.known_names)


def _judged(judging: Mapping[str, Detector], found: Outputs) -> dict[str, Judged]:
    is_known, judged = found.labels >= 0, {}
    for name, detector in judging.items():
        scores = detector.score(found)
        metrics = open_set_metrics(scores[is_known], found.correct[is_known], scores[~is_known])
        judged[name] = Judged(float(found.correct[is_known].mean()), metrics["auroc"])
    return judged


def held_out_split(params: Params, data: ChosenImages, hold_out: HoldOut) -> tuple[Split, IntArray]:
    """The split without the classes held out, and the rows that are judged: known and held-out images.

    Args:
        params: all settings.
        data: of `load_known`.
        hold_out: which classes.
    """
    divide = partial(
        make_split,
        data.targets,
        data.class_names,
        background=hold_out.background,
        background_val_fraction=params.split.background_val_fraction,
        val_fraction=params.split.val_fraction,
        test_fraction=params.split.test_fraction,
        seed=params.split.seed,
        groups=data.groups,
    )
    parts = divide(known=hold_out.known, unknown=hold_out.held_out)
    # Their test images stay unseen, too: they are test images of the trial.
    trial_test = divide(known=sorted((*hold_out.known, *hold_out.held_out)), unknown=[]).test
    if params.split.max_per_class != "none":
        parts = thinned(parts, params.split.max_per_class, seed=params.split.seed)
    unknown = np.setdiff1d(parts.test[parts.labels[parts.test] < 0], trial_test)
    return parts, np.concatenate([parts.known_rows("val"), unknown])
