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
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from osr.devices import set_cpu_threads
from osr.errors import InputError
from osr.held_out import hold_outs, judge, load_known
from osr.params import Params, check_params
from osr.settings.reading import read_yaml
from pipeline.experiments.overrides import merge, parse_overrides
from pipeline.experiments.preset import load_presets
from pipeline.workspace.stages import PARAMS

TRIALS, PAIRS = 5, 3
RUNS = [f"{trial}.{pair}" for pair in range(PAIRS) for trial in range(TRIALS)]


def settings(presets: list[str], overrides: list[str]) -> Params:
    """params.yaml with the presets, and some values replaced."""
    content = merge(read_yaml(PARAMS), load_presets(presets))
    return check_params(merge(content, parse_overrides(overrides)), source=f"{PARAMS} with overrides")


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
        data = load_known(params, range(TRIALS))
        found = hold_outs(params, data.class_names, trials=range(TRIALS), parts=PAIRS)
    except InputError as error:
        parser.error(str(error))
    set_cpu_threads(params.train.cpu_threads)
    runs = arguments.only or RUNS[: arguments.trainings]
    wanted, judged = {one.name: one for one in found}, []
    for run in tqdm(runs, desc="trainings", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            judged.append(judge(params, data, wanted[run], folder=Path(folder)))
    accuracies, aurocs = np.array([(one.accuracy, one.auroc) for one in judged]).T
    title = " ".join([*arguments.preset, *arguments.overrides]) or "params.yaml"
    print(
        f"{title}: accuracy {mean_and_error(accuracies)}, AUROC {mean_and_error(aurocs)} "
        f"(n = {len(runs)} trainings: {' '.join(f'{value:.4f}' for value in aurocs)})"
    )


def mean_and_error(values: NDArray[np.float64]) -> str:
    """The mean of (N,) values, and its standard error if there are several."""
    error = f" ± {values.std(ddof=1) / len(values) ** 0.5:.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{error}"


if __name__ == "__main__":
    main()
