"""Detector knn beside one search of faiss's flat index over all test images.

Run: OMP_NUM_THREADS=N python -m benchmarks.neighbors [--threads N] [--rounds R].
Fit and score, in turn: processor time of one thread, wall time of several.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import faiss
import numpy as np

from benchmarks.detectors import make_outputs
from benchmarks.measure import Clock, limit_threads, timed
from osr.detectors.neighbors import Knn
from osr.outputs import Outputs

NEIGHBORS = 50
SHAPES = ((10_000, 4_000, 10, 512), (20_000, 1_500, 1_000, 2_048))


def ours(train: Outputs, test: Outputs) -> None:
    """The detector."""
    Knn(num_neighbors=NEIGHBORS).fit(train).score(test)


def theirs(train: Outputs, test: Outputs) -> None:
    """faiss, on rows of length 1."""
    index = faiss.IndexFlatL2(train.features.shape[1])
    index.add(train.features / np.linalg.norm(train.features, axis=1, keepdims=True))
    index.search(test.features / np.linalg.norm(test.features, axis=1, keepdims=True), NEIGHBORS)


def main() -> None:
    """Print seconds and the ratio of each round, and their median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    limit_threads(options.threads)
    clock: Clock = "cpu" if options.threads == 1 else "wall"
    for num_train, num_test, classes, width in SHAPES:
        shape = {"classes": classes, "width": width}
        train, test = make_outputs(num_train, shape, seed=1), make_outputs(num_test, shape, seed=2)
        ratios = []
        for _ in range(options.rounds):
            seconds = [timed(partial(call, train, test), clock)[0] for call in (ours, theirs)]
            ratios.append(seconds[0] / seconds[1])
            print(f"{num_train} x {width}: {seconds[0]:.2f} s, faiss {seconds[1]:.2f} s", flush=True)
        print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})", flush=True)


if __name__ == "__main__":
    main()
