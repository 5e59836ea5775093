"""Sums over all training images in bounded chunks, float64, and products that use symmetry."""

from __future__ import annotations

import torch
from torch import Tensor

from osr.detectors.chunks import Images

_NUM_BLOCKS = 4
_MIN_BLOCK = 64


def feature_mean(images: Images) -> Tensor:
    """Mean of the features, (D,) float64."""
    total = torch.zeros(images.num_features, dtype=torch.float64, device=images.device)
    for batch in images.batches():
        total += batch.features.sum(0, dtype=torch.float64)
    return total / len(images)


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
