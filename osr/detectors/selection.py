"""Largest values of each row: numpy's sorts are several times faster than torch's on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osr.detectors.threads import on_threads
from osr.detectors.tracing import is_traced

Array = NDArray[Any]

# Rows of the bank per tile, similarities at once, those that are selected from at once, and how many of them
# share a maximum at first.
_TILE = 12288
_AT_ONCE = 1 << 23
_IN_CACHE = 1 << 18
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
    scale = torch.where(lengths == 0, 0.0, 1 / lengths).to(features.dtype)
    has_zeros = is_traced() or bool((lengths == 0).any())
    zero = torch.where(lengths == 0, 0.5, 0.0).to(features.dtype) if has_zeros else None
    step = max(1, _AT_ONCE // min(_TILE, len(bank)))
    if _in_torch(features):
        parts = (features,) if is_traced() else torch.split(features, step)
        found = [_of_tiles(part, bank, count, scale, zero) for part in parts]
        values, rows = (torch.cat(part) for part in zip(*found, strict=True))
    else:
        width = sum(min(count, len(tile)) for tile in torch.split(bank, _TILE))
        values = features.new_empty((len(features), width))
        rows = torch.empty(values.shape, dtype=torch.int64)

        def search(part: slice) -> None:
            values[part], rows[part] = _of_tiles(features[part], bank, count, scale, zero)

        on_threads(search, len(features), step=step)
    top = values.topk(count, dim=1)
    return top.values, rows.gather(1, top.indices)


def _of_tiles(
    features: Tensor, bank: Tensor, count: int, scale: Tensor, zero: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The same of each tile of the bank, side by side and in no order."""
    values, rows = [], []
    for start in range(0, len(bank), _TILE):
        tile = slice(start, start + _TILE)
        products = _products(features, bank[tile].to(features.dtype))
        offset = None if zero is None else zero[tile]
        tile_values, columns = _largest(products, count, scale[tile], offset)
        values.append(tile_values)
        rows.append(columns + start)
    return torch.cat(values, 1), torch.cat(rows, 1)


def _products(features: Tensor, tile: Tensor) -> Tensor:
    """All inner products, (n, M); numpy's are a fifth faster than torch's on AMD processors."""
    if _in_torch(features):
        return features @ tile.T
    return torch.from_numpy(features.numpy() @ tile.numpy().T)


def _largest(products: Tensor, count: int, scale: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor]:
    """The min(count, M) largest of each row of (n, M), in no order, and their columns, (n, ...) int64 each.

    Each column is multiplied with its scale, and its offset added, in place. On a CPU rows are taken a few at
    a time, which stay in the cache.
    """
    size = min(count, products.shape[1])
    if _in_torch(products):
        similar = products.mul_(scale)
        return _largest_in_torch(similar if offset is None else similar.add_(offset), size)
    array, factors, zeros = products.numpy(), scale.numpy(), None if offset is None else offset.numpy()
    values, columns = np.empty((len(array), size), array.dtype), np.empty((len(array), size), np.int64)
    step = max(1, _IN_CACHE // array.shape[1])
    for start in range(0, len(array), step):
        rows = slice(start, start + step)
        part = array[rows]
        part *= factors
        if zeros is not None:
            part += zeros
        columns[rows] = _columns_of_largest(part, size)
        values[rows] = _at(part, columns[rows])
    return torch.from_numpy(values), torch.from_numpy(columns)


def _largest_in_torch(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The same of (n, M), as `_columns_of_largest` finds them."""
    width = values.shape[1]
    groups = width // _GROUP
    if groups <= 4 * count:
        top = values.topk(count, dim=1, sorted=False)
        return top.values, top.indices
    maxima = values[:, : groups * _GROUP].reshape(-1, _GROUP, groups).amax(1)
    best = maxima.topk(count, dim=1, sorted=False).indices
    members = torch.arange(0, groups * _GROUP, groups, device=best.device)
    left_over = torch.arange(groups * _GROUP, width, device=best.device).expand(best.shape[0], -1)
    columns = torch.cat([(best[:, :, None] + members).flatten(1), left_over], 1)
    top = values.gather(1, columns).topk(count, dim=1, sorted=False)
    return top.values, columns.gather(1, top.indices)


def _columns_of_largest(values: Array, count: int) -> Array:
    """(n, count) int64, the columns of the largest values of each row of (n, M), in no order.

    Columns are put in groups; the largest `count` values lie in the `count` groups with the largest maxima,
    so that only these are looked at one by one.
    """
    width = values.shape[1]
    groups = width // _GROUP
    if groups <= 4 * count:
        return _partitioned(values, count)
    maxima = values[:, :groups].copy()
    for start in range(groups, groups * _GROUP, groups):
        np.maximum(maxima, values[:, start : start + groups], out=maxima)
    members = _partitioned(maxima, count)[:, :, None] + np.arange(0, groups * _GROUP, groups)
    left_over = np.broadcast_to(np.arange(groups * _GROUP, width), (len(values), width % _GROUP))
    columns = np.concatenate([members.reshape(len(values), -1), left_over], axis=1)
    return _at(columns, _partitioned(_at(values, columns), count))


def _partitioned(values: Array, count: int) -> Array:
    """The same without groups.

    Numpy partitions values several times faster than columns, so columns are looked for by the smallest value
    that counts, unless others are equal to it.
    """
    place = values.shape[1] - count
    large = values >= np.partition(values, place, axis=1)[:, place, None]
    found = np.flatnonzero(large)
    if len(found) == len(values) * count:
        return np.asarray(found.reshape(len(values), count) - _first_of_rows(values))
    return np.asarray(np.argpartition(values, place, axis=1)[:, place:])


def _at(values: Array, columns: Array) -> Array:
    """Values (n, M) at columns (n, m) of their rows; several times faster than numpy's take_along_axis."""
    return np.asarray(np.take(np.ravel(values), columns + _first_of_rows(values)))


def _first_of_rows(values: Array) -> Array:
    """(n, 1), the place of each row's first value among all."""
    found: Array = np.arange(len(values))[:, None] * values.shape[1]
    return found


def _in_torch(values: Tensor) -> bool:
    """Whether numpy, which is faster on a CPU, is no choice."""
    return values.is_cuda or is_traced()
