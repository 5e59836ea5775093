"""Compare training recipes without looking at a single test image or unknown class.

    python -m benchmarks.recipe [--preset NAME] [--trainings N | --only TRIAL.PAIR ...] [key=value ...]
    python -m benchmarks.recipe train.epochs=40
    python -m benchmarks.recipe --preset mnist_classifier32 --trainings 5 split.protocol=B train.epochs=3

In each trial two of the six known classes are held out in turn and play the unknowns: the network learns the
other four from their training images and is judged on their validation images against the held-out classes.
Five trials times three pairs give 15 trainings, the first five of them with a pair of each trial;
`--only 3.0 0.2` takes the first pair of trial 3 and the third of trial 0.
Printed are accuracy and the AUROC of `maxlogit`, mean and standard error, and each AUROC, since recipes are
best compared training by training: docs/log.md.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from osr.data.batches import ArrayImages, hash_seed
from osr.data.datasets import load_images
from osr.data.images import ImageSet
from osr.detectors.logit_scores import MaxLogit
from osr.devices import set_cpu_threads
from osr.errors import InputError
from osr.inference.extraction import extract
from osr.losses.registry import build_loss
from osr.metrics.open_set import open_set_metrics
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import format_for
from osr.params import Params, check_params
from osr.settings.reading import read_yaml
from osr.splits.classes import protocol_classes
from osr.splits.division import make_split
from osr.training.loop import train
from pipeline.experiments.overrides import merge, parse_overrides
from pipeline.experiments.preset import load_presets
from pipeline.workspace.stages import PARAMS

TRIALS, PAIRS = 5, 3
RUNS = {f"{trial}.{pair}": (trial, pair) for pair in range(PAIRS) for trial in range(TRIALS)}


def settings(presets: list[str], overrides: list[str]) -> Params:
    """params.yaml with the presets, and some values replaced."""
    content = merge(read_yaml(PARAMS), load_presets(presets))
    return check_params(merge(content, parse_overrides(overrides)), source=f"{PARAMS} with overrides")


def without_test(data: ImageSet) -> ImageSet:
    """The images outside the published test part, if there is one, as if no parts were published."""
    if data.parts is None:
        return data
    rows = np.flatnonzero(data.parts != "test")
    return replace(data, images=data.images[rows], targets=data.targets[rows], parts=None, groups=None)


def judge(params: Params, data: ImageSet, trial: int, pair: int) -> tuple[float, float]:
    """Validation accuracy of four known classes, and AUROC against the two that were held out."""
    known, _ = protocol_classes(params.split.protocol, params.dataset.name, trial, len(data.class_names))
    held_out = known[2 * pair : 2 * pair + 2]
    divide = partial(
        make_split,
        data.targets,
        data.class_names,
        val_fraction=params.split.val_fraction,
        test_fraction=params.split.test_fraction,
        seed=params.split.seed,
    )
    parts = divide(known=[number for number in known if number not in held_out], unknown=held_out)
    # The pair's test images stay unseen, too: they are test images of the trial.
    trial_test = divide(known=known, unknown=[]).test
    unknown = np.setdiff1d(parts.test[parts.labels[parts.test] < 0], trial_test)
    rows = np.concatenate([parts.val, unknown])

    def part(rows: np.ndarray) -> ArrayImages:
        return ArrayImages(data.images, rows, torch.from_numpy(parts.labels[rows]))

    torch.manual_seed(hash_seed(params.train.seed, -1))
    model = OpenSetModel(params.model, format_for(params.model, data.images[parts.train]), parts.known_names)
    smoothing = params.train.label_smoothing
    loss = build_loss(params.train.loss, params.losses, label_smoothing=smoothing, head=model.head)
    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            loss,
            train_data=part(parts.train),
            val_data=part(parts.val),
            settings=params.train,
            checkpoint=Path(folder) / "state.pt",
            num_extra=params.model.head.extra_classes,
            on_epoch=lambda _row, _rate: None,
        )
    outputs = extract(
        model,
        part(rows),
        index=rows,
        batch_size=params.extraction.batch_size,
        device=torch.device("cpu"),
        title="judge",
    )
    is_known = outputs.labels >= 0
    scores = MaxLogit().score(outputs)
    found = open_set_metrics(scores[is_known], outputs.correct[is_known], scores[~is_known])
    return float(outputs.correct[is_known].mean()), found["auroc"]


def main() -> None:
    """Run the trainings and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", nargs="*", default=[])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--trainings", type=int, default=len(RUNS))
    which.add_argument("--only", nargs="+", choices=RUNS, metavar="TRIAL.PAIR")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()
    try:
        params = settings(arguments.preset, arguments.overrides)
        data = without_test(load_images(params.dataset))
    except InputError as error:
        parser.error(str(error))
    set_cpu_threads(params.train.cpu_threads)
    runs = arguments.only or list(RUNS)[: arguments.trainings]
    found = np.array([judge(params, data, *RUNS[run]) for run in tqdm(runs, desc="trainings", disable=None)])
    title = " ".join([*arguments.preset, *arguments.overrides]) or "params.yaml"
    print(
        f"{title}: accuracy {mean_and_error(found[:, 0])}, AUROC {mean_and_error(found[:, 1])} "
        f"(n = {len(runs)} trainings: {' '.join(f'{value:.4f}' for value in found[:, 1])})"
    )


def mean_and_error(values: NDArray[np.float64]) -> str:
    """The mean of (N,) values, and its standard error if there are several."""
    error = f" ± {values.std(ddof=1) / len(values) ** 0.5:.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{error}"


if __name__ == "__main__":
    main()
