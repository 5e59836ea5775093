"""Ways to train against each other: the same classes, images, seeds and epochs; chosen on held-out knowns.

    python -m benchmarks.training_methods [--presets NAME ...] [--methods "" t2fnorm ...] [--trials 0 1 ...]
        [--seeds 0 ...] [--parts N] [--folder DIR] [-- key=value ...]

A method is a preset or several of presets/ on top of params.yaml and of `--presets`; "" is these as they are.
The others are compared with the first, repeat by repeat; a repeat is a class split with a seed, that of the
training and of which images are drawn. Each method has the settings of its preset.
In each repeat a method learns all known classes and is tested against the unknown ones. With `--parts N` it
also learns without a part of the known classes, in the next repeat without the next, and is judged on
validation images against that part (`osr/held_out.py`). The method and score whose AUROC there has the
largest mean is chosen: by no unknown class and no test image.
DIR keeps the numbers of each training and the state of one that was interrupted: what is there with the
same settings is not done again. Printed are means over the repeats, paired differences, 95 % intervals of
Student's t over the repeats, and minutes of processor time of a training with its test.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.recipe import settings
from benchmarks.trials import split_of
from osr.data.chosen import ChosenImages
from osr.data.datasets import load_images
from osr.data.images import ImageSet
from osr.devices import set_cpu_threads
from osr.errors import InputError
from osr.held_out import held_out_split, hold_outs, judge_split, load_known
from osr.metrics.comparison import paired_t_test
from osr.metrics.statistics import t_interval
from osr.outputs import IntArray
from osr.params import Params
from osr.splits.division import thinned
from osr.splits.split import Split

METHODS = ("", "t2fnorm", "regmixup", "rotpred", "pixmix", "rotpred pixmix")
TRIALS = range(5)
SCORES = ("maxlogit", "rotpred", "kplus1")  # of these, the first and those that are enabled
Repeat = tuple[int, int]  # trial, seed
Results = dict[str, list[dict[str, Any]]]  # method -> those of its repeats


@dataclass(frozen=True)
class Training:
    """One training of the comparison.

    Args:
        method: presets, separated by blanks.
        repeat: class split and seed.
        params: all settings.
        part: of the known classes, which is held out, and of how many; None: it is tested.
    """

    method: str
    repeat: Repeat
    params: Params
    part: tuple[int, int] | None

    @property
    def key(self) -> str:
        """What numbers are kept under: other settings, other numbers."""
        told = json.dumps([self.params.model_dump(mode="json"), self.part], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


class Data:
    """The images: those that a choice may see apart from test parts and unknown classes."""

    def __init__(self, params: Params, trials: Sequence[int]) -> None:
        self.params, self.trials = params, trials

    @cached_property
    def known(self) -> ChosenImages:
        """Of the known classes, without a published test part."""
        return load_known(self.params, self.trials)

    @cached_property
    def all(self) -> ImageSet:
        """Every image."""
        return load_images(self.params.dataset)

    def held_out(self, training: Training, part: int, parts: int) -> tuple[ChosenImages, Split, IntArray]:
        """Images, a split without a part of the known classes, and the rows that are judged."""
        found = hold_outs(training.params, self.known.class_names, trials=training.repeat[:1], parts=parts)
        return (self.known, *held_out_split(training.params, self.known, found[part]))

    def tested(self, params: Params) -> tuple[ChosenImages, Split, IntArray]:
        """Images, the split of the repeat, and its test rows."""
        data, rows = self.all, np.arange(len(self.all.targets))
        split = split_of(params, data)
        if params.split.max_per_class != "none":
            split = thinned(split, params.split.max_per_class, seed=params.split.seed)
        images = ChosenImages(data.images, data.targets, data.class_names, rows, data.groups)
        return images, split, split.test


def run(training: Training, data: Data, folder: Path) -> dict[str, Any]:
    """Accuracy, AUROC by score, training images and minutes of processor time."""
    params = training.params
    if training.part is None:
        images, split, rows = data.tested(params)
    else:
        images, split, rows = data.held_out(training, *training.part)
    scores = [name for name in SCORES if name == SCORES[0] or name in params.detectors.enabled]
    state, started = folder / f"{training.key}.pt", time.process_time()
    judged = judge_split(params, images, split, rows, state=state, detectors=scores)
    state.unlink(missing_ok=True)
    return {
        "accuracy": judged[SCORES[0]].accuracy,
        "auroc": {name: one.auroc for name, one in judged.items()},
        "images": len(split.train),
        "judged": len(rows),
        "minutes": (time.process_time() - started) / 60,
    }


def main() -> None:
    """Run the trainings and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--presets", nargs="*", default=[])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--trials", nargs="+", type=int, default=TRIALS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--parts", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            compare(options, options.folder or Path(folder))
    except InputError as error:
        parser.error(str(error))


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Run what is missing, then print."""
    repeats = list(product(options.trials, options.seeds))
    trainings = [each for number in range(len(repeats)) for each in trainings_of(options, repeats, number)]
    params = trainings[0].params
    set_cpu_threads(params.train.cpu_threads)
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "trainings.jsonl"
    lines = results.read_text().splitlines() if results.is_file() else []
    kept = {line["key"]: line for line in map(json.loads, lines)}
    missing = [training for training in trainings if training.key not in kept]
    data = Data(params, options.trials)
    for training in tqdm(missing, desc="trainings", disable=None):
        named = {"method": training.method, "repeat": training.repeat, "part": training.part}
        kept[training.key] = {"key": training.key} | named | run(training, data, folder)
        with results.open("a") as file:
            file.write(f"{json.dumps(kept[training.key])}\n")
    tested, held_out = (
        {name: [kept[one.key] for one in chosen if one.method == name] for name in options.methods}
        for chosen in (
            [one for one in trainings if one.part is None],
            [one for one in trainings if one.part is not None],
        )
    )
    print(told(params, options, tested, [kept[one.key] for one in trainings]))
    if len(repeats) > 1:
        print_table(tested, held_out)


def trainings_of(options: argparse.Namespace, repeats: Sequence[Repeat], number: int) -> list[Training]:
    """Those of one repeat: every method once, and once more without a part of the known classes."""
    trial, seed = repeats[number]
    where = [f"split.trial={trial}", f"split.seed={seed}", f"train.seed={seed}"]
    found = []
    for name in options.methods:
        params = settings([*options.presets, *name.split()], [*options.overrides, *where])
        found.append(Training(name, repeats[number], params, None))
        if options.parts:
            found.append(Training(name, repeats[number], params, (number % options.parts, options.parts)))
    return found


def told(params: Params, options: argparse.Namespace, tested: Results, found: list[dict[str, Any]]) -> str:
    """What was run, in a sentence."""
    first = tested[options.methods[0]]
    learned = sorted({one["images"] for one in first})
    pixels = params.model.image_size
    return (
        f"{params.model.backbone.name}, {'' if pixels == 'auto' else f'{pixels} pixels, '}"
        f"{' to '.join(map(str, dict.fromkeys((learned[0], learned[-1]))))} images to learn from and "
        f"{first[0]['judged']} to test, {params.train.epochs} epochs; {len(first)} repeats, {len(found)} "
        f"trainings, {sum(one['minutes'] for one in found):.1f} minutes of processor time\n"
    )


def print_table(tested: Results, held_out: Results) -> None:
    """As Markdown: a line for each method and score, then what held-out known classes choose."""
    base = next(iter(tested.values()))
    print("| presets | score | held out | AUROC | difference | accuracy | difference | minutes |")
    print("|---|---|---|---|---|---|---|---|")
    choices = []
    for name, found in tested.items():
        right = [one["accuracy"] for one in found]
        gap_of_right = gap(right, [one["accuracy"] for one in base]) if found is not base else ""
        minutes = np.mean([one["minutes"] for one in found])
        for score in found[0]["auroc"]:
            areas = [one["auroc"][score] for one in found]
            is_first = found is base and score == SCORES[0]
            against = "" if is_first else gap(areas, [one["auroc"][SCORES[0]] for one in base])
            outside = [one["auroc"][score] for one in held_out[name]]
            judged = f"{np.mean(outside):.4f}" if outside else ""
            alone = t_interval(areas, confidence=0.95)
            area = f"{alone.estimate:.4f} [{alone.low:.4f}, {alone.high:.4f}]"
            line = f"{name or '(none)'} | {score} | {judged} | {area} | {against} | {np.mean(right):.4f}"
            print(f"| {line} | {gap_of_right} | {minutes:.2f} |")
            if outside:
                choices.append((np.mean(outside), f"{name or '(none)'} with {score}: {area}, {against}"))
    if choices:
        print(f"\nChosen on held-out knowns: {max(choices)[1]}")


def gap(values: Sequence[float], others: Sequence[float]) -> str:
    """The mean difference of pairs and its interval."""
    found = paired_t_test(values, others, confidence=0.95)
    return f"{found.estimate:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


if __name__ == "__main__":
    main()
