"""Sums over all training images, in bounded chunks, float64."""

from __future__ import annotations

import torch
from torch import Tensor

from osr.detectors.base import Images

# A D x D sum per chunk is worth adding up only for chunks that are not much smaller than D rows.
_CHUNK_BYTES = 64 << 20
_NUM_BLOCKS = 4
_MIN_BLOCK = 64


def feature_mean(images: Images) -> Tensor:
    """Mean of the features, (D,) float64."""
    total = torch.zeros(images.num_features, dtype=torch.float64, device=images.device)
    for batch in images.batches():
        total += batch.features.sum(0)
    return total / len(images)


def scatter(images: Images, origin: Tensor) -> Tensor:
    """Sum of (f - origin)(f - origin)' over the images, (D, D) float64.

    Float64 throughout: what is small beside the largest variance decides Mahalanobis distances.
    """
    total = torch.zeros((images.num_features, images.num_features), dtype=torch.float64, device=images.device)
    for batch in images.batches(chunk_bytes=_CHUNK_BYTES):
        total += gram(batch.features.double() - origin)
    return total


def gram(values: Tensor) -> Tensor:
    """Product of the transpose and the values (n, D) themselves, (D, D), from the blocks above the diagonal."""
    width = values.shape[1]
    product = values.new_empty((width, width))
    step = max(_MIN_BLOCK, -(-width // _NUM_BLOCKS))
    for start in range(0, width, step):
        stop = min(start + step, width)
        block = values[:, start:stop].T @ values[:, start:]
        product[start:stop, start:] = block
        product[start:, start:stop] = block.T
    return product
