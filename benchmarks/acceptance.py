"""Do thresholds accept fewer new knowns when their images have chosen the epoch, too?

    OMP_NUM_THREADS=1 python -m benchmarks.acceptance [--trainings N] [key=value ...]

Each training has a split and a seed of its own: of the known digits 45 % are for training, 15 % are A, 15 %
are B and 25 % are the test C. The epoch that is best on A is judged on C at the threshold made from A, as
the pipeline does, and at the one made from B, which chose nothing. Then A and B change places, and the mean
of both counts, which is without noise where both choose one epoch. Printed are, per detector and target, the
share of C that each threshold accepts, their difference with its standard error, and the NLL of C under both
temperatures.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from benchmarks.recipe import settings
from osr.calibration.calibrators import fit_calibration, mean_nll
from osr.data.batches import ArrayImages, hash_seed
from osr.data.datasets import load_images
from osr.data.images import ImageSet
from osr.detectors.registry import build_detectors
from osr.devices import set_cpu_threads
from osr.inference.extraction import extract
from osr.losses.registry import build_loss
from osr.metrics.thresholds import fit_threshold
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import format_for
from osr.outputs import Outputs
from osr.params import Params
from osr.splits.classes import protocol_classes
from osr.splits.division import make_split
from osr.splits.split import Split
from osr.training.loop import evaluate, train

TRAININGS, TRIALS = 200, 5
SHORT = (
    "train.epochs=12",
    "train.warmup_epochs=1",
    "train.accelerator=cpu",
    "detectors.enabled=[msp,maxlogit,energy,mav,openmax,knn]",
)
RULES = {"acceptance": False, "conformal": True}
TARGETS = (0.95, 0.99)
Rows = dict[str, NDArray[np.int64]]
Found = dict[tuple[str, ...], tuple[float, float]]  # of the images that chose the epoch, and of the others


@dataclass(frozen=True)
class Trained:
    """A network, its states after every epoch, and its accuracies then on A and on B."""

    model: OpenSetModel
    images: Mapping[str, ArrayImages]
    rows: Rows
    states: list[dict[str, Tensor]]
    accuracies: Mapping[str, list[float]]

    def best_on(self, part: str) -> int:
        """As `Progress` chooses it: the latest of those with the highest accuracy."""
        found = self.accuracies[part]
        return max(range(len(found)), key=lambda epoch: (found[epoch], epoch))

    def outputs(self, epoch: int) -> dict[str, Outputs]:
        """Of `train`, A, B and C after one epoch."""
        self.model.load_state_dict(self.states[epoch])
        device = torch.device("cpu")
        return {
            name: extract(
                self.model, images, index=self.rows[name], batch_size=512, device=device, title=name
            )
            for name, images in self.images.items()
        }


def divided(split: Split, seed: int) -> Rows:
    """The known rows of each part; the validation images of each class are cut in two at random."""
    generator = np.random.default_rng(seed)
    halves: dict[str, list[NDArray[np.int64]]] = {"A": [], "B": []}
    for number in split.known:
        rows = generator.permutation(split.val[split.targets[split.val] == number])
        halves["A"].append(rows[::2])
        halves["B"].append(rows[1::2])
    found = {name: np.sort(np.concatenate(rows)) for name, rows in halves.items()}
    return {"train": split.known_rows("train"), **found, "C": split.known_rows("test")}


def trained(params: Params, data: ImageSet, seed: int) -> Trained:
    """One training with a split, a class split and a start of its own."""
    known, _ = protocol_classes(params.split.protocol, params.dataset.name, seed % TRIALS, 10)
    split = make_split(
        data.targets,
        data.class_names,
        known=known,
        unknown=(),
        val_fraction=0.3,
        test_fraction=0.25,
        seed=seed,
    )
    rows = divided(split, seed)
    pixels = np.asarray(data.images)
    images = {
        name: ArrayImages(pixels, part, torch.from_numpy(split.labels[part])) for name, part in rows.items()
    }
    torch.manual_seed(hash_seed(seed, -1))
    model = OpenSetModel(params.model, format_for(params.model, pixels[split.train]), split.known_names)
    loss = build_loss(params.train.loss, params.losses, label_smoothing=0.0, head=model.head)
    states: list[dict[str, Tensor]] = []
    accuracies: dict[str, list[float]] = {"A": [], "B": []}

    def look(row: dict[str, float], _rate: float) -> None:
        states.append({key: tensor.clone() for key, tensor in model.state_dict().items()})
        accuracies["A"].append(row["val/accuracy"])
        accuracies["B"].append(evaluate(model, loss, images["B"], batch_size=512)["val/accuracy"])

    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            loss,
            train_data=images["train"],
            val_data=images["A"],
            settings=params.train.model_copy(update={"seed": seed}),
            checkpoint=Path(folder) / "state.pt",
            on_epoch=look,
        )
    return Trained(model, images, rows, states, accuracies)


def judged(parts: Mapping[str, Outputs], params: Params, chose: str, other: str) -> Found:
    """What thresholds and temperatures of the images that chose the epoch, and of others, do to C."""
    found: Found = {}
    for name, detector in build_detectors(params.detectors).items():
        detector.fit(parts["train"])
        scores = {part: detector.score(parts[part]) for part in (chose, other, "C")}
        for rule, conformal in RULES.items():
            for target in TARGETS:
                thetas = (
                    fit_threshold(scores[part], target_acceptance=target, conformal=conformal).value
                    for part in (chose, other)
                )
                own, others = (float((scores["C"] <= theta).mean()) for theta in thetas)
                found[name, rule, str(target)] = (own, others)
    nlls = [nll_on(parts["C"], calibrated_on=parts[part]) for part in (chose, other)]
    return {**found, ("NLL",): (nlls[0], nlls[1])}


def nll_on(test: Outputs, *, calibrated_on: Outputs) -> float:
    """Of the test images, under the temperature of others."""
    fit = fit_calibration(calibrated_on.logits, calibrated_on.labels, method="temperature", folds=5)
    return mean_nll(fit.calibration.apply(test.logits), test.labels)


def both_ways(params: Params, data: ImageSet, seed: int) -> tuple[Found, bool]:
    """The mean of `judged` with A and with B as the images that choose; whether they choose two epochs."""
    run = trained(params, data, seed)
    first, second = run.best_on("A"), run.best_on("B")
    ways = judged(run.outputs(first), params, "A", "B"), judged(run.outputs(second), params, "B", "A")
    mean = {
        key: (0.5 * (one[0] + ways[1][key][0]), 0.5 * (one[1] + ways[1][key][1]))
        for key, one in ways[0].items()
    }
    return mean, first != second


def print_table(runs: Sequence[tuple[Found, bool]]) -> None:
    """Means over the trainings, and the mean difference with its standard error."""
    differ = sum(two for _, two in runs)
    print(f"{len(runs)} trainings; in {differ} of them A and B choose different epochs\n")
    print("| detector | rule | asked | images that chose the epoch | other images | difference |")
    print("|---|---|---:|---:|---:|---:|")
    for key in runs[0][0]:
        values = np.array([found[key] for found, _ in runs])
        scale, names = (100, key) if len(key) == 3 else (1, (*key, "", ""))
        gaps = scale * (values[:, 0] - values[:, 1])
        means = " | ".join(f"{scale * mean:.{2 if scale > 1 else 4}f}" for mean in values.mean(axis=0))
        error = gaps.std(ddof=1) / len(runs) ** 0.5
        print(f"| {' | '.join(names)} | {means} | {gaps.mean():+.3f} ± {error:.3f} |")


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trainings", type=int, default=TRAININGS)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()
    params = settings([], [*SHORT, *arguments.overrides])
    set_cpu_threads(1)
    data = load_images(params.dataset)
    runs = [both_ways(params, data, seed) for seed in tqdm(range(arguments.trainings), disable=None)]
    print_table(runs)


if __name__ == "__main__":
    main()
