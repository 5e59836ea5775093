"""The distance to the k-th nearest training image: found by float32 products, checked, and exact."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from osr.detectors.distances import unit
from osr.detectors.selection import most_similar

# Neighbours on either side of the k-th by products whose distances are taken exactly.
_MARGIN = 4
# Numbers of a bank that are float64 at once.
_AT_ONCE = 1 << 21


def kth_distances(features: Tensor, bank: Tensor, lengths: Tensor, count: int) -> Tensor:
    """Euclidean distance of each image to the `count`-th nearest row of the bank, all scaled to length 1.

    A vector of zeros stays one. Products rank the bank; a few rows around the k-th are compared in float64,
    and an image is done where none of the others can belong on the other side of the k-th, given the largest
    rounding error of a product. Images that lie too near each other for that are ranked by float64 products.

    Args:
        features: (n, D) float32.
        bank: (N, D) float32, N at least `count`.
        lengths: of the rows of the bank, (N,) float64.
        count: k.

    Returns:
        (n,) float64, 0..2.
    """
    queries = unit(features.double())
    result, sure = _ranked_by(queries.float(), queries, bank, lengths, count)
    again = (~sure).nonzero()[:, 0]
    if len(again):
        close = queries.index_select(0, again)
        result[again] = _ranked_by(close, close, bank, lengths, count)[0]
    return result


def _ranked_by(
    rounded: Tensor, queries: Tensor, bank: Tensor, lengths: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Distances (n,) float64, and whether each is surely that of the k-th, (n,) bool.

    Neighbours are ranked by (1 + |u|^2 - |u - v|^2) / 2: the product u v where the row v is not all zeros,
    1/2 where it is.
    """
    first, last = max(0, count - _MARGIN), min(len(bank), count + _MARGIN)
    similar, rows = most_similar(rounded, bank, last, lengths)
    squares = _squares(queries, bank, lengths, rows[:, first:]).sort(1).values[:, count - first - 1]
    exact = (1 + queries.square().sum(1) - squares) / 2
    error = _largest_error(rounded)
    sure = torch.ones_like(exact, dtype=torch.bool)
    if first:
        sure &= similar[:, first - 1].double() - error >= exact
    if last < len(bank):
        sure &= similar[:, -1].double() + error <= exact
    return squares.sqrt(), sure


def _squares(queries: Tensor, bank: Tensor, lengths: Tensor, rows: Tensor) -> Tensor:
    """(n, m) float64, squared distances of each query to its rows (n, m) of the bank."""
    step = max(1, _AT_ONCE // (rows.shape[1] * bank.shape[1]))
    result = queries.new_empty(rows.shape)
    for start in range(0, len(rows), step):
        part = rows[start : start + step].flatten()
        near = unit(bank.index_select(0, part).double(), lengths.index_select(0, part))
        gaps = near.view(-1, *rows.shape[1:], bank.shape[1]) - queries[start : start + step, None]
        result[start : start + step] = torch.linalg.vector_norm(gaps, dim=2).square_()
    return result


def _largest_error(values: Tensor) -> float:
    """Bound of the rounding error of a product of two rows of length 1.

    D roundings at worst, and their square root times 8 with a probability of failure below 1e-12 for each
    product (Higham and Mary 2019); four more for the rows themselves and their lengths.
    """
    width = values.shape[1]
    roundoff = float(torch.finfo(values.dtype).eps) / 2
    return roundoff * (min(width, 8 * math.sqrt(width)) + 4)
