"""Accuracy and AUROC of a recipe on the test images of class splits, unknown classes among them: look once.

    python -m benchmarks.trials [--preset NAME ...] [--trials 0 1 2 3 4] [key=value ...]

Trains as stage train does and judges as stage evaluate does, by `plot.detector`, without the other
stages. Recipes are chosen by known classes alone, by `osr search` or `python -m benchmarks.recipe`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.recipe import mean_and_error, settings
from osr.data.chosen import ChosenImages, load_classes
from osr.data.images import ImageSet
from osr.devices import set_cpu_threads
from osr.errors import InputError
from osr.held_out import Judged, judge_split
from osr.params import Params
from osr.splits.classes import choose_classes
from osr.splits.division import make_split
from osr.splits.split import Split


def split_of(params: Params, data: ImageSet | ChosenImages) -> Split:
    """The division of stage prepare-split, without its search for copies."""
    classes = choose_classes(params.split, params.dataset.name, data.class_names)
    return make_split(
        data.targets,
        data.class_names,
        known=classes.known,
        background=classes.background,
        unknown=classes.unknown,
        val_fraction=params.split.val_fraction,
        test_fraction=params.split.test_fraction,
        seed=params.split.seed,
        parts=data.parts if isinstance(data, ImageSet) else None,
        groups=data.groups,
    )


def test_of(params: Params) -> Judged:
    """What one class split comes to; where no test part is published."""
    data = load_classes(params.dataset, lambda names: range(len(names)))
    split = split_of(params, data)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.pt"
        name = params.plot.detector
        return judge_split(params, data, split, split.test, state=state, detectors=(name,))[name]


def main() -> None:
    """Run the trainings and print a table of one row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", nargs="*", default=[])
    parser.add_argument("--trials", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()
    try:
        found = []
        for trial in tqdm(arguments.trials, desc="trainings", disable=None):
            params = settings(arguments.preset, [*arguments.overrides, f"split.trial={trial}"])
            set_cpu_threads(params.train.cpu_threads)
            found.append(test_of(params))
    except InputError as error:
        parser.error(str(error))
    accuracies, aurocs = np.array([(one.accuracy, one.auroc) for one in found]).T
    title = " ".join([*arguments.preset, *arguments.overrides]) or "params.yaml"
    each = " ".join(f"{value:.4f}" for value in aurocs)
    print("| recipe | AUROC | each trial | accuracy |\n|---|---:|---|---:|")
    print(f"| {title} | {mean_and_error(aurocs)} | {each} | {mean_and_error(accuracies)} |")


if __name__ == "__main__":
    main()
