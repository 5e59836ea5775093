"""Largest values of each row: numpy's sorts are several times faster than torch's on a CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from osr.detectors.tracing import is_traced

# Rows of the bank per tile, similarities at once, and how many of them share a maximum at first.
_TILE = 12288
_AT_ONCE = 1 << 23
_GROUP = 8
_SORTED = 512


def argmax(values: Tensor) -> Tensor:
    """(n,) int64, the column of the largest value of each row, the first of equal ones."""
    if _in_torch(values):
        return values.argmax(1)
    return torch.from_numpy(values.numpy().argmax(1))


def top_values(values: Tensor, count: int) -> Tensor:
    """(n, count), the largest values of each row, in no order."""
    if _in_torch(values):
        return values.topk(count, dim=1, sorted=False).values
    return torch.from_numpy(np.sort(values.numpy(), axis=1)[:, -count:])


def top_products(features: Tensor, bank: Tensor, count: int) -> Tensor:
    """The `count` largest inner products of each row (n, D) with the bank (N, D): (n, count), in no order."""
    # Numpy's sort is fastest by far up to this width.
    parts = [top_values(features @ tile.T, min(count, len(tile))) for tile in torch.split(bank, _SORTED)]
    return parts[0] if len(parts) == 1 else top_values(torch.cat(parts, 1), count)


def most_similar(features: Tensor, bank: Tensor, count: int, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of `bank`, scaled to length 1, that are nearest by the product with each image.

    Without all products in memory at once. A row of zeros counts as a product of 1/2, because it is at
    distance 1 from a vector of length 1.

    Args:
        features: (n, D) of length 1 or 0; products are taken in their precision.
        bank: (N, D), N at least `count`.
        count: how many.
        lengths: of the rows of the bank, (N,).

    Returns:
        The products, falling, and the rows, each (n, count).
    """
    num_parts = 1 if is_traced() else max(1, round(len(features) * min(_TILE, len(bank)) / _AT_ONCE))
    scale = torch.where(lengths == 0, 0.0, 1 / lengths).to(features.dtype)
    has_zeros = is_traced() or bool((lengths == 0).any())
    zero = torch.where(lengths == 0, 0.5, 0.0).to(features.dtype) if has_zeros else None
    parts = [_most_similar(part, bank, count, scale, zero) for part in features.tensor_split(num_parts)]
    values, rows = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(rows)


def _most_similar(
    features: Tensor, bank: Tensor, count: int, scale: Tensor, zero: Tensor | None
) -> tuple[Tensor, Tensor]:
    values, rows = [], []
    for start in range(0, len(bank), _TILE):
        tile = slice(start, start + _TILE)
        similarities = _products(features, bank[tile].to(features.dtype)).mul_(scale[tile])
        if zero is not None:
            similarities += zero[tile]
        tile_values, columns = _largest(similarities, count)
        values.append(tile_values)
        rows.append(columns + start)
    top = torch.cat(values, 1).topk(count, dim=1)
    return top.values, torch.cat(rows, 1).gather(1, top.indices)


def _products(features: Tensor, tile: Tensor) -> Tensor:
    """All inner products, (n, M); numpy's are a fifth faster than torch's on AMD processors."""
    if _in_torch(features):
        return features @ tile.T
    return torch.from_numpy(features.numpy() @ tile.numpy().T)


def _largest(similarities: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The min(count, M) largest of each row of (n, M), and their columns.

    Columns are put in groups; the largest `count` values lie in the `count` groups with the largest maxima,
    so that only these are looked at one by one.
    """
    width = similarities.shape[1]
    groups = width // _GROUP
    if groups <= 4 * count:
        columns = _columns_of_largest(similarities, min(count, width))
        return similarities.gather(1, columns), columns
    maxima = similarities[:, : groups * _GROUP].reshape(-1, _GROUP, groups).amax(1)
    best = _columns_of_largest(maxima, count)
    members = torch.arange(0, groups * _GROUP, groups, device=best.device)
    left_over = torch.arange(groups * _GROUP, width, device=best.device).expand(best.shape[0], -1)
    columns = torch.cat([(best[:, :, None] + members).flatten(1), left_over], 1)
    looked_at = similarities.gather(1, columns)
    top = _columns_of_largest(looked_at, count)
    return looked_at.gather(1, top), columns.gather(1, top)


def _columns_of_largest(values: Tensor, count: int) -> Tensor:
    """(n, count) int64, the columns of the largest values of each row of (n, M), in no order.

    Numpy partitions values several times faster than columns, so columns are looked for by the smallest value
    that counts, unless others are equal to it.
    """
    if _in_torch(values):
        return values.topk(count, dim=1, sorted=False).indices
    array = values.numpy()
    place = array.shape[1] - count
    large = array >= np.partition(array, place, axis=1)[:, place, None]
    if np.count_nonzero(large) == len(array) * count:
        return torch.from_numpy(np.nonzero(large)[1].reshape(len(array), count))
    return torch.from_numpy(np.argpartition(array, place, axis=1)[:, place:])


def _in_torch(values: Tensor) -> bool:
    """Whether numpy, which is faster on a CPU, is no choice."""
    return values.is_cuda or is_traced()
