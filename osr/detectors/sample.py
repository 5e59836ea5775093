"""A sample of the training images that merges: those whose numbers have the smallest keys."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osr.detectors.chunks import Images


class Sample(NamedTuple):
    """Some images, as good as drawn at random, whatever the shards were: all, where there are no more.

    An image's key is a mixing of its number in the split (`Outputs.index`); the `size` smallest keys stay.
    The sample of two sets of images is that of their samples, so that shards in any order give the same one.

    Args:
        keys: (n,) int64, rising.
        features: (n, D), float32, or float64 where they are divided by their length.
        labels: (n,) int64.
        size: the largest n.
    """

    keys: Tensor
    features: Tensor
    labels: Tensor
    size: int

    @classmethod
    def of(cls, images: Images, size: int) -> Self:
        """Of the images that count."""
        keys, rows = _mixed(np.asarray(images.outputs.index)), images.rows
        if len(rows) > size:
            rows = np.sort(rows[np.argpartition(keys[rows], size)[:size]])
        kind = torch.float64 if images.unit else torch.float32
        features = [torch.empty((0, images.num_features), dtype=kind, device=images.device)]
        labels = [torch.empty(0, dtype=torch.int64, device=images.device)]
        for batch in images.only(rows).batches():
            features.append(batch.features)
            labels.append(batch.labels)
        chosen = torch.from_numpy(keys[rows]).to(images.device)
        return cls(chosen, torch.cat(features), torch.cat(labels), size)._smallest()

    def merge(self, other: Sample) -> Sample:
        """That of both sets of images."""
        keys, features, labels = (torch.cat(pair) for pair in zip(self[:3], other[:3], strict=True))
        return Sample(keys, features, labels, self.size)._smallest()

    def _smallest(self) -> Self:
        order = self.keys.argsort(stable=True)[: self.size]
        return type(self)(self.keys[order], self.features[order], self.labels[order], self.size)


def _mixed(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """A key for each number, no two alike: the finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    key = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (key ^ (key >> np.uint64(31))).view(np.int64)
