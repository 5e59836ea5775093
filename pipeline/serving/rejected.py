"""What `osr discover` clusters: the rejected images, and a sample of the accepted ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from osr.outputs import FloatArray, Outputs

PER_CLASS = 2  # times --min-images accepted images take part for each known class, on average


def num_accepted(num_classes: int, min_images: int) -> int:
    """How many accepted images take part, at most."""
    return PER_CLASS * min_images * num_classes


class Judged:
    """What was rejected, and a sample of what was accepted.

    Args:
        class_names: K names.
        min_images: of a candidate.
    """

    def __init__(self, class_names: Sequence[str], min_images: int) -> None:
        self.class_names, self.most = class_names, num_accepted(len(class_names), min_images)
        self.names, self.nearest = list[str](), list[str]()
        self._features, self._sample = list[FloatArray](), list[FloatArray]()
        self._random = np.random.default_rng(0)
        self.num_accepted = self.num_unreadable = 0

    def add(self, names: Sequence[str], outputs: Outputs, is_rejected: NDArray[np.bool_]) -> None:
        """Note images, what the network says of them, and which of them are rejected."""
        rows = np.flatnonzero(is_rejected).tolist()
        self.names += [names[row] for row in rows]
        self.nearest += [self.class_names[outputs.predictions[row]] for row in rows]
        self._features.append(outputs.features[rows])
        for row in np.flatnonzero(~is_rejected):  # in the end each is in the sample at the same chance
            place = self.num_accepted
            if place >= self.most:
                place = int(self._random.integers(place + 1))
            if place < self.most:
                self._sample[place : place + 1] = [outputs.features[row].copy()]  # not the whole batch
            self.num_accepted += 1

    @property
    def rejected(self) -> FloatArray:
        """(N, D) float32, features of the rejected images."""
        return np.concatenate(self._features) if self._features else np.empty((0, 1), np.float32)

    def accepted(self, min_images: int) -> FloatArray | None:
        """(M, D) float32, features of the sample of accepted images, or of fewer for smaller candidates."""
        most = num_accepted(len(self.class_names), min_images)
        rows = np.sort(np.random.default_rng(0).permutation(len(self._sample))[:most])
        return np.stack([self._sample[row] for row in rows]) if len(rows) else None
