"""Sums over training images in bounded chunks, float64, that merge; and products that use symmetry."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from osr.detectors.chunks import Images
from osr.detectors.classes import gather_classes

_NUM_BLOCKS = 4
_MIN_BLOCK = 64


class Moments(NamedTuple):
    """Counts, means and the scatter around the means, of each class or of all images as one group.

    Args:
        counts: images of each group, (G,) int64.
        means: (G, D) float64; 0 for a group without images.
        scatter: sum of (f - m)(f - m)' over all images, m the mean of the image's group, (D, D) float64.
    """

    counts: Tensor
    means: Tensor
    scatter: Tensor

    @classmethod
    def of_classes(cls, images: Images) -> Self:
        """Of each known class by itself."""
        found = gather_classes(images, "features", correct_only=False)
        means = found["sums"] / found["counts"].clamp_min(1)[:, None]
        return cls(found["counts"], means, scatter(images, means))

    @classmethod
    def of_all(cls, images: Images) -> Self:
        """Of all images as one group."""
        mean = feature_sum(images) / max(1, len(images))
        counts = torch.tensor([len(images)], device=images.device)
        return cls(counts, mean[None], scatter(images, mean))

    @property
    def covariance(self) -> Tensor:
        """Around the means, (D, D) float64."""
        return self.scatter / self.counts.sum()

    def merge(self, other: Moments) -> Moments:
        """Those of both sets of images, with what the gaps of the means add. Chan, Golub and LeVeque 1979."""
        counts = self.counts + other.counts
        share = other.counts.double() / counts.clamp_min(1)
        gaps = other.means - self.means
        weighed = gaps * (self.counts * share).sqrt()[:, None]
        between = torch.zeros_like(self.scatter).addmm_(weighed.T, weighed)
        return Moments(counts, self.means + share[:, None] * gaps, self.scatter + other.scatter + between)

    def scatter_around(self, origin: Tensor) -> Tensor:
        """Sum of (f - origin)(f - origin)' over all images of one group, (D, D) float64, origin (D,)."""
        gap = self.means[0] - origin
        return self.scatter + self.counts[0] * gap * gap[:, None]


def feature_sum(images: Images) -> Tensor:
    """Sum of the features, (D,) float64."""
    total = torch.zeros(images.num_features, dtype=torch.float64, device=images.device)
    for batch in images.batches():
        total += batch.features.sum(0, dtype=torch.float64)
    return total


def scatter(images: Images, origins: Tensor) -> Tensor:
    """Sum of (f - origin)(f - origin)' over the images, (D, D) float64.

    Float64 throughout, and the origin taken off first: what is small beside the largest variance, or beside
    the length of f, decides Mahalanobis distances.

    Args:
        images: N known training images.
        origins: float64, one for all images (D,), or one for each class (K, D), by label.
    """
    total = torch.zeros((images.num_features, images.num_features), dtype=torch.float64, device=images.device)
    # A sum of D x D is worth adding up only for chunks that are not much smaller than D rows.
    rows = 2 * images.num_features
    for batch in images.batches(min_rows=rows):
        origin = origins if origins.dim() == 1 else origins.index_select(0, batch.labels)
        values = batch.features.double() - origin
        for start, stop in _blocks(images.num_features):
            total[start:stop, start:].addmm_(values[:, start:stop].T, values[:, start:])
    return total.triu_().add_(total.triu(1).T)


def times_triangle(values: Tensor, triangle: Tensor) -> Tensor:
    """Product of the values (n, D) and an upper triangular matrix (D, D), without most of its zeros."""
    parts = [values[:, :stop] @ triangle[:stop, start:stop] for start, stop in _blocks(len(triangle))]
    return torch.cat(parts, 1)


def _blocks(width: int) -> list[tuple[int, int]]:
    """0..width in a few parts: products of four parts by four need ten of the sixteen where half is known."""
    step = max(_MIN_BLOCK, -(-width // _NUM_BLOCKS))
    return [(start, min(start + step, width)) for start in range(0, width, step)]
