"""The distance to the k-th nearest training image: found by float32 products, checked, and exact."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from osr.detectors.distances import unit
from osr.detectors.selection import most_similar
from osr.detectors.threads import on_threads
from osr.detectors.tracing import is_traced

# How many neighbours around the k-th by products are compared exactly: few at first, more where that is not
# enough.
_MARGINS = (1, 4, 16)
# Numbers of a bank that are float64 at once: in the cache, and too few for torch to start threads.
_AT_ONCE = (1 << 15) - 1


def kth_distances(features: Tensor, bank: Tensor, lengths: Tensor, count: int) -> Tensor:
    """Euclidean distance of each image to the `count`-th nearest row of the bank, all scaled to length 1.

    A vector of zeros stays one. Products rank the bank; the rows around the k-th are compared in float64, and
    an image is done where no other row can belong on the other side of the k-th, given the largest rounding
    error of a product. Images whose neighbours lie too close together for that are ranked by float64
    products.

    Args:
        features: (n, D) float32.
        bank: (N, D) float32, N at least `count`.
        lengths: of the rows of the bank, (N,) float64.
        count: k.

    Returns:
        (n,) float64, 0..2.
    """
    queries = unit(features.double())
    if is_traced():
        rows = most_similar(queries, bank, count, lengths)[1][:, -1:]
        return _squares(queries, bank, lengths, rows)[:, 0].sqrt()
    result = queries.new_empty(len(queries))
    pending = torch.arange(len(queries), device=queries.device)
    for dtype in (torch.float32, torch.float64):
        near = queries.index_select(0, pending)
        similar, rows = most_similar(near.to(dtype), bank, min(len(bank), count + _MARGINS[-1]), lengths)
        open_ = torch.arange(len(near), device=near.device)
        for margin in _MARGINS:
            part = (near[open_], similar[open_], rows[open_])
            result[pending[open_]], sure = _around(*part, bank, lengths, count, margin)
            open_ = open_[~sure]
        pending = pending[open_]
        if not len(pending):
            break
    return result


def _around(
    queries: Tensor, similar: Tensor, rows: Tensor, bank: Tensor, lengths: Tensor, count: int, margin: int
) -> tuple[Tensor, Tensor]:
    """Distances (n,) float64, and whether each is surely that of the k-th, (n,) bool.

    Rows are ranked by (1 + |u|^2 - |u - v|^2) / 2: the product u v where the row v is not all zeros, 1/2
    where it is. What `similar` says of the rows that are not compared is right but for its rounding error.
    """
    first, last = max(0, count - margin), min(similar.shape[1], count + margin)
    squares = _squares(queries, bank, lengths, rows[:, first:last]).sort(1).values[:, count - first - 1]
    exact = (1 + queries.square().sum(1) - squares) / 2
    error = _largest_error(similar.dtype, bank.shape[1])
    sure = torch.ones_like(exact, dtype=torch.bool)
    if first:
        sure &= similar[:, first - 1].double() - error >= exact
    if last < len(bank):
        sure &= similar[:, last - 1].double() + error <= exact
    return squares.sqrt(), sure


def _squares(queries: Tensor, bank: Tensor, lengths: Tensor, rows: Tensor) -> Tensor:
    """(n, m) float64, squared distances of each query to its rows (n, m) of the bank."""
    if is_traced():
        return _squares_at_once(queries, bank, lengths, rows)
    result = queries.new_empty(rows.shape)

    def compute(part: slice) -> None:
        result[part] = _squares_at_once(queries[part], bank, lengths, rows[part])

    on_threads(compute, len(rows), step=max(1, _AT_ONCE // (rows.shape[1] * bank.shape[1])))
    return result


def _squares_at_once(queries: Tensor, bank: Tensor, lengths: Tensor, rows: Tensor) -> Tensor:
    part = rows.flatten()
    near = unit(bank.index_select(0, part).double(), lengths.index_select(0, part))
    gaps = near.view(-1, rows.shape[1], bank.shape[1]) - queries[:, None]
    squares: Tensor = torch.linalg.vector_norm(gaps, dim=2).square_()
    return squares


def _largest_error(dtype: torch.dtype, width: int) -> float:
    """Bound of the rounding error of a product of two rows of length 1.

    D roundings at worst, and their square root times 8 with a probability of failure below 1e-12 for each
    product (Higham and Mary 2019); four more for the rows themselves and their lengths.
    """
    roundoff = float(torch.finfo(dtype).eps) / 2
    return roundoff * (min(width, 8 * math.sqrt(width)) + 4)
