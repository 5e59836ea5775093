"""Ways to train against each other: the same trials, images, seeds and epochs, tested on the unknown classes.

    python -m benchmarks.training_methods [--methods "" t2fnorm ...] [--results FILE] [-- key=value ...]

A method is a preset or several of presets/ on top of params.yaml; "" is params.yaml itself. The others are
compared with the first, trial by trial. Nothing is chosen here: each method has the settings of its preset.
FILE keeps the numbers of each training in a line: what stands there already is not trained again, so several
processes can share the trials (`--trials 0 1`), and one without `--trials` prints the table of all.
Printed are means over the trials of the protocol, and paired differences with 95 % intervals of Student's t.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.recipe import settings
from osr.data.batches import ArrayImages, hash_seed
from osr.data.datasets import load_images
from osr.data.images import ImageSet
from osr.detectors.registry import build_detectors, network_again_of
from osr.devices import set_cpu_threads
from osr.inference.extraction import extract
from osr.losses.registry import build_loss
from osr.metrics.comparison import paired_t_test
from osr.metrics.open_set import open_set_metrics
from osr.metrics.statistics import t_interval
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import format_for
from osr.params import Params
from osr.splits.classes import protocol_classes
from osr.splits.division import make_split
from osr.training.loop import train

METHODS = ("", "t2fnorm", "regmixup", "rotpred", "pixmix", "rotpred pixmix")
TRIALS = 5
SCORES = ("maxlogit", "energy", "rotpred", "kplus1")  # of these, those that are enabled


def judge(params: Params, data: ImageSet, trial: int) -> dict[str, float]:
    """Test accuracy of one training, and the AUROC of each score."""
    known, unknown = protocol_classes(
        params.split.protocol, params.dataset.name, trial, len(data.class_names)
    )
    parts = make_split(
        data.targets,
        data.class_names,
        known=known,
        unknown=unknown,
        val_fraction=params.split.val_fraction,
        test_fraction=params.split.test_fraction,
        seed=params.split.seed,
    )

    def part(rows: np.ndarray) -> ArrayImages:
        return ArrayImages(data.images, rows, torch.from_numpy(parts.labels[rows]))

    torch.manual_seed(hash_seed(params.train.seed, -1))
    model = OpenSetModel(params.model, format_for(params.model, data.images[parts.train]), parts.known_names)
    smoothing = params.train.label_smoothing
    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            build_loss(params.train.loss, params.losses, label_smoothing=smoothing, head=model.head),
            train_data=part(parts.train),
            val_data=part(parts.val),
            settings=params.train,
            checkpoint=Path(folder) / "state.pt",
            num_extra=params.model.head.extra_classes,
            rotation_weight=params.rotation_weight,
            on_epoch=lambda _row, _rate: None,
        )
    enabled = [name for name in (*params.detectors.enabled, "energy") if name in SCORES]
    chosen = params.detectors.model_copy(update={"enabled": tuple(dict.fromkeys(enabled))})
    detectors = build_detectors(chosen)
    outputs = extract(
        model,
        part(parts.test),
        index=parts.test,
        batch_size=params.extraction.batch_size,
        device=torch.device("cpu"),
        title="judge",
        again=network_again_of(*detectors.values()),
    )
    is_known, found = outputs.labels >= 0, {"accuracy": float(outputs.correct[outputs.labels >= 0].mean())}
    for name, detector in detectors.items():
        scores = detector.score(outputs)
        found[name] = open_set_metrics(scores[is_known], outputs.correct[is_known], scores[~is_known])[
            "auroc"
        ]
    return found


def main() -> None:
    """Run the trainings and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--trials", nargs="+", type=int, default=range(TRIALS))
    parser.add_argument("--results", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()
    chosen = {name: settings(name.split(), arguments.overrides) for name in arguments.methods}
    first = arguments.methods[0]
    data = load_images(chosen[first].dataset)
    set_cpu_threads(chosen[first].train.cpu_threads)
    kept = {(name, trial): found for name, trial, found in read(arguments.results)}
    runs = [(name, trial) for trial in arguments.trials for name in chosen]
    for name, trial in tqdm([run for run in runs if run not in kept], desc="trainings", disable=None):
        kept[name, trial] = judge(chosen[name], data, trial)
        line = json.dumps([name, trial, kept[name, trial]])
        print(line, flush=True)
        if arguments.results:
            with arguments.results.open("a") as file:
                file.write(f"{line}\n")
    if len(arguments.trials) > 1:
        print_table({name: [kept[name, trial] for trial in arguments.trials] for name in chosen}, first)


def read(path: Path | None) -> list[tuple[str, int, dict[str, float]]]:
    """What FILE holds."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path and path.is_file() else []


def print_table(results: dict[str, list[dict[str, float]]], first: str) -> None:
    """As Markdown: a line for each method and score."""
    print("| presets | score | AUROC | against the first, `maxlogit` | accuracy |\n|---|---|---|---|---|")
    base = [found["maxlogit"] for found in results[first]]
    for name, found in results.items():
        accuracy = np.mean([each["accuracy"] for each in found])
        for score in list(found[0])[1:]:
            values, against = [each[score] for each in found], ""
            if (name, score) != (first, "maxlogit"):
                gap = paired_t_test(values, base, confidence=0.95)
                against = f"{gap.estimate:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
            alone = t_interval(values, confidence=0.95)
            area = f"{alone.estimate:.4f} [{alone.low:.4f}, {alone.high:.4f}]"
            print(f"| {name or '(none)'} | {score} | {area} | {against} | {accuracy:.4f} |")


if __name__ == "__main__":
    main()
