"""Fit every detector that needs no bank to features on disk, in shards that are merged: time and memory.

    python -m benchmarks.scale FOLDER                        130,000 images x 2,048 features x 1,000 classes
    python -m benchmarks.scale FOLDER --images 1300000       ImageNet; writes 10.7 GB into FOLDER
    python -m benchmarks.scale FOLDER --only mav vim --shards 1 --threads 1

The features are synthetic and stored alone (`extraction.store: features`), so that logits are worked out in
each pass that reads them. Each detector has a process of its own. "MB" is the largest anonymous memory of it,
beyond that of a process that has loaded the library, and then all that was resident, the library and pages of
mapped files included; the system keeps as many of these as it has room for, so that a bound on what is needed
takes a limit on all of it: `systemd-run --scope -p MemoryMax=3G python -m benchmarks.scale ...`. Seconds are
those of processors. One shard is `fit`, several are as many `partial_fit` and `merge`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.measure import limit_threads
from osr.detectors.base import Detector
from osr.detectors.registry import DETECTORS, build_detectors
from osr.errors import InputError
from osr.outputs import LinearLogits, Outputs
from osr.params import load_params
from osr.stored.growing import Form, write_rows

ROOT = Path(__file__).parents[1]
NAMES = [name for name, cls in DETECTORS.items() if cls.needs_fit and not cls.needs_all]
CHUNK = 8192


class Cost(NamedTuple):
    """Seconds and MB of a fit (anonymous, and all), or why there is none."""

    seconds: float
    megabytes: float
    resident: float
    refused: str = ""

    def __str__(self) -> str:
        return self.refused or f"{self.seconds:,.1f} s ({self.megabytes:,.0f}; {self.resident:,.0f})"


def main() -> None:
    """Print one line per detector, as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=130_000, help="(%(default)s)")
    parser.add_argument("--width", type=int, default=2048, help="features (%(default)s)")
    parser.add_argument("--classes", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 8], help="(%(default)s)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    arguments = parser.parse_args()
    shape = arguments.images, arguments.width, arguments.classes
    if not (arguments.folder / "outputs.json").exists():
        make(arguments.folder, *shape)
    print(
        f"{shape[0]:,} images x {shape[1]:,} features x {shape[2]:,} classes, {arguments.threads} threads\n"
    )
    print(f"| detector | {' | '.join(f'{count} shards: s (MB; all)' for count in arguments.shards)} |")
    print(f"|---|{'---:|' * len(arguments.shards)}")
    limit_threads(arguments.threads)
    context = multiprocessing.get_context("fork")  # loading the library takes seconds
    total = dict.fromkeys(arguments.shards, 0.0)
    for name in arguments.only:
        costs = []
        for count in arguments.shards:
            with context.Pool(1) as pool:
                costs.append(pool.apply(measured, (arguments.folder, name, count)))
            total[count] += costs[-1].seconds
        print(f"| {name} | {' | '.join(map(str, costs))} |", flush=True)
    told = (f"{spent:,.1f} s, {spent / shape[0] * 1e6:,.0f} us an image" for spent in total.values())
    print(f"| all | {' | '.join(told)} |\n\n{4 * shape[1]:,} bytes an image are read in each pass")


def make(folder: Path, num_images: int, width: int, num_classes: int) -> None:
    """Features behind a ReLU around a centre per class, and the head that knows the centres."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((num_classes, width), np.float32)
    labels = rng.permutation(num_images) % num_classes
    folder.mkdir(parents=True, exist_ok=True)

    def rows() -> np.ndarray:
        for start in range(0, num_images, CHUNK):
            own = centres[labels[start : start + CHUNK]]
            yield np.maximum(own + rng.standard_normal(own.shape, np.float32), 0)

    form = Form(np.dtype(np.float32), (num_images, width))
    features = write_rows(folder / "features.npy", form, rows())
    weight = 0.02 * (centres - centres.mean(0))
    bias = np.zeros(num_classes, np.float32)
    index = np.arange(num_images)
    Outputs(LinearLogits(features, weight, bias, block=512), features, labels, index, weight, bias).save(
        folder
    )


def measured(folder: Path, name: str, num_shards: int) -> Cost:
    """Of one detector, in this process alone."""
    settings = load_params(ROOT / "params.yaml").detectors.model_copy(update={"enabled": (name,)})
    outputs = Outputs.load(folder)
    peak = Peak()

    def built() -> Detector:
        return build_detectors(settings)[name]

    began = time.process_time()
    try:
        if num_shards == 1:
            built().fit(outputs)
        else:
            merged = reduce(
                lambda one, rows: one.merge(built().partial_fit(part(outputs, rows))),
                np.array_split(np.arange(len(outputs)), num_shards),
                built(),
            )
            merged.size  # noqa: B018, learns from what was merged
    except InputError as error:
        return Cost(0, 0, 0, f"refused: {error}")
    spent = time.process_time() - began
    return Cost(spent, *peak.end())


def part(outputs: Outputs, rows: np.ndarray) -> Outputs:
    """Some consecutive rows, still mapped from their file."""
    some = slice(int(rows[0]), int(rows[-1]) + 1)
    features, head = outputs.features[some], (outputs.weight, outputs.bias)
    logits = LinearLogits(features, *head, block=512)
    return Outputs(logits, features, outputs.labels[some], outputs.index[some], *head)


class Peak:
    """The largest memory since it was made: anonymous memory is looked at each 10 ms."""

    def __init__(self) -> None:
        self.first, self.most = megabytes("RssAnon"), 0.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.ended.wait(0.01):
            self.most = max(self.most, megabytes("RssAnon"))

    def end(self) -> tuple[float, float]:
        """MB: anonymous beyond that at first, and all that was resident at once."""
        self.ended.set()
        self.thread.join()
        return self.most - self.first, megabytes("VmHWM")


def megabytes(key: str) -> float:
    """A line of what the system knows of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    main()
