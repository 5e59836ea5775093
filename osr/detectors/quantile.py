"""Quantiles of all training activations in bounded memory, by counts that merge."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osr.detectors.chunks import Images

_EXACT = 1 << 20  # so many values are kept themselves
_BITS = 12  # of a float32 that a bin does not tell apart: the others are sign, exponent and 11 bits of 23
_NUM_BINS = 1 << (32 - _BITS)


class Counts(NamedTuple):
    """How many of the N * D features lie where.

    Args:
        values: (n,) float32, all of them, where there are few; else none.
        bins: (2 ** 20,) int64, how many lie in each bin, where there are many; else none. A bin holds the
            float32 numbers whose first 20 bits are equal: its ends differ by 1/2048 of their size at most.
    """

    values: Tensor
    bins: Tensor

    @classmethod
    def of(cls, images: Images) -> Self:
        """Of the features of the images that count."""
        few = len(images) * images.num_features <= _EXACT
        values, bins = [np.empty(0, np.float32)], np.zeros(0 if few else _NUM_BINS, np.int64)
        for batch in images.batches():
            features = batch.features.cpu().numpy().ravel()
            if few:
                values.append(features)
            else:
                bins += _binned(features)
        return cls(torch.from_numpy(np.concatenate(values)), torch.from_numpy(bins))

    def merge(self, other: Counts) -> Counts:
        """Those of both sets of images."""
        values = torch.cat([self.values, other.values])
        bins = [part.bins for part in (self, other) if len(part.bins)]
        if not bins and len(values) <= _EXACT:
            return Counts(values, self.bins)
        counted = torch.from_numpy(_binned(values.cpu().numpy())).to(values.device)
        return Counts(values[:0], sum(bins, start=counted))

    def quantile(self, share: float) -> float:
        """The quantile, linear between order statistics as in numpy.

        Many values are taken to be spread evenly over the bins that they lie in.

        Args:
            share: 0..1.
        """
        if not len(self.bins):
            return float(np.quantile(self.values.cpu().numpy().astype(np.float64), share))
        counts = self.bins.cpu().numpy()
        until = counts.cumsum()
        rank = share * (until[-1] - 1)
        lower, upper = (_at(int(end), counts, until) for end in (np.floor(rank), np.ceil(rank)))
        return float(lower + (upper - lower) * (rank - np.floor(rank)))


def _at(rank: int, counts: NDArray[np.int64], until: NDArray[np.int64]) -> float:
    """The value of a rank, as if those of a bin were spread over it evenly."""
    number = int(np.searchsorted(until, rank, side="right"))
    low, high = _ends(number)
    before = until[number] - counts[number]
    return float(low + (high - low) * (rank - before + 0.5) / counts[number])


def _binned(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many values lie in each bin; bins rise with the values."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    # Float32 numbers above 0 rise with their bits; those below 0 fall.
    rising = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
    return np.bincount(rising >> np.uint32(_BITS), minlength=_NUM_BINS)


def _ends(number: int) -> tuple[float, float]:
    """The smallest and the largest float32 number of a bin."""
    rising = np.array([number << _BITS, ((number + 1) << _BITS) - 1], np.uint32)
    bits = np.where(rising >> np.uint32(31), rising ^ np.uint32(1 << 31), ~rising)
    low, high = bits.view(np.float32).astype(np.float64)
    return float(low), float(high)
