"""Detector knn beside one search of faiss's flat index over all test images: python -m benchmarks.neighbors.

One thread, processor time of fit and score, three rounds in turn.
"""

from __future__ import annotations

import time

import faiss
import numpy as np

from benchmarks.detectors import make_outputs
from benchmarks.measure import limit_threads
from osr.detectors.neighbors import Knn
from osr.outputs import Outputs

NEIGHBORS, ROUNDS = 50, 3
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
    """Print seconds and the ratio of each round."""
    limit_threads(1)
    for num_train, num_test, classes, width in SHAPES:
        shape = {"classes": classes, "width": width}
        pair = make_outputs(num_train, shape, seed=1), make_outputs(num_test, shape, seed=2)
        for _ in range(ROUNDS):
            seconds = []
            for call in (ours, theirs):
                start = time.process_time()
                call(*pair)
                seconds.append(time.process_time() - start)
            print(f"{num_train} x {width}: {seconds[0]:.2f} s, faiss {seconds[1]:.2f} s", flush=True)


if __name__ == "__main__":
    main()
