"""Maximum-likelihood Weibull fits of many samples at once, location fixed at 0."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osr.errors import InputError

Array = NDArray[np.float64]

_MAX_STEPS = 200


def fittable(samples: Array) -> NDArray[np.bool_]:
    """(K,) bool: which rows of (K, n) samples have a fit: all values above 0, and not all equal."""
    smallest = samples.min(axis=1)
    return np.asarray((smallest > 0) & (smallest < samples.max(axis=1)))


def fit_weibull(samples: Array) -> tuple[Array, Array]:
    """Fit a two-parameter Weibull distribution to each row.

    With y = log(x / max x), the profile likelihood of the shape k has its maximum where
    g(k) = sum(y e^(ky)) / sum(e^(ky)) - 1/k - mean y is 0; the scale follows in closed form. g rises
    everywhere and its root lies between 1/m and (1 + (n-1)/e) / m, m = -mean y: Newton steps inside that
    bracket, halving it where a step would leave it. No power above 1 is taken, so nothing overflows.

    Args:
        samples: (K, n) float64, above 0, n at least 2.

    Returns:
        Shape and scale, each (K,) float64.

    Raises:
        InputError: a row is not `fittable`. The likelihood of equal values has no maximum (the shape grows
        without
            end), that of a value of 0 is not defined.
    """
    bad = np.flatnonzero(~fittable(samples))
    if len(bad):
        raise InputError(
            f"Row {bad[0]} has no Weibull fit: its values must be above 0 and must not all be equal."
        )
    largest = samples.max(axis=1)
    y = np.log(np.maximum(samples / largest[:, None], np.finfo(np.float64).tiny))
    shape = _profile_root(y)
    return shape, largest * np.exp(np.log(np.exp(shape[:, None] * y).mean(axis=1)) / shape)


def weibull_cdf(values: Tensor, shape: Tensor, scale: Tensor) -> Tensor:
    """1 - exp(-(x / scale)^shape) for x >= 0, elementwise; exact near 0 and free of overflow."""
    return -torch.expm1(-torch.exp(shape * torch.log(values / scale)))


def _profile_root(y: Array) -> Array:
    """The shapes (K,) for y = log(x / max x), (K, n)."""
    mean = y.mean(axis=1)
    low = -1 / mean
    high = low * (1 + (y.shape[1] - 1) / np.e)
    # log x of a Weibull variable has standard deviation pi / (sqrt(6) shape).
    shape = np.clip(np.pi / np.sqrt(6) / y.std(axis=1), low, high)
    for _ in range(_MAX_STEPS):
        power = np.exp(shape[:, None] * y)
        total = power.sum(axis=1)
        power *= y
        first = power.sum(axis=1) / total
        power *= y
        second = power.sum(axis=1) / total
        value = first - 1 / shape - mean
        low, high = np.where(value < 0, shape, low), np.where(value < 0, high, shape)
        newton = shape - value / (second - first**2 + 1 / shape**2)
        step = np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        done = np.abs(step - shape) <= 1e-14 * shape
        shape = step
        if done.all():
            break
    return np.asarray(shape)
