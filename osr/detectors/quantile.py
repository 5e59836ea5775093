"""An exact quantile of all training activations in bounded memory."""

from __future__ import annotations

import numpy as np
import torch

from osr.detectors.chunks import Images

_SAMPLE = 1 << 16
# Widens the bracket to this many standard errors of the sample's quantile.
_ERRORS = 6


def feature_quantile(images: Images, quantile: float) -> float:
    """The quantile of the N * D features, linear between order statistics as in numpy.

    A sample brackets it; one pass counts what lies below and keeps what lies inside. Should the bracket miss,
    which the counts show, all values are taken.

    Args:
        images: known training images.
        quantile: 0..1.
    """
    size = len(images) * images.num_features
    rank = quantile * (size - 1)
    first, last = int(np.floor(rank)), int(np.ceil(rank))
    low, high = _bracket(images, quantile)
    below, inside = _count(images, low, high)
    if not below <= first <= last < below + len(inside):
        below, inside = _count(images, -np.inf, np.inf)
    wanted = np.partition(inside, sorted({first - below, last - below}))
    lower, upper = float(wanted[first - below]), float(wanted[last - below])
    return lower + (upper - lower) * (rank - first)


def _bracket(images: Images, quantile: float) -> tuple[float, float]:
    """Two values with the quantile between them, very likely."""
    stride = max(1, len(images) * images.num_features // _SAMPLE)
    # Coprime to the number of features, or the sample would hold a few features only.
    while np.gcd(stride, images.num_features) > 1:
        stride += 1
    sample = torch.cat([batch.features.flatten()[::stride] for batch in images.batches()]).cpu().numpy()
    error = _ERRORS * np.sqrt(quantile * (1 - quantile) / len(sample))
    low, high = np.quantile(sample, [max(0.0, quantile - error), min(1.0, quantile + error)])
    return float(low), float(high)


def _count(
    images: Images, low: float, high: float
) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """How many values lie below `low`, and those from `low` to `high`."""
    below, inside = 0, []
    for batch in images.batches():
        features = batch.features.cpu().numpy()
        below += int(np.count_nonzero(features < low))
        inside.append(features[(features >= low) & (features <= high)])
    return below, np.concatenate(inside)
