"""The generalised Pareto distribution of the excesses over a location: fit and logarithm of its tail."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from osr.detectors.softmax import falling_exp

Array = NDArray[np.float64]

_GRID = 64  # places of the profile likelihood that are tried first
_HALVINGS = 60
# Beside the mean excess; a shape closer to 0 is that of the exponential distribution.
_EXPONENTIAL = 1e-6
# Shapes that are tried reach from -1, the uniform distribution, to about log of this.
_HEAVIEST = 1e6


class Pareto(NamedTuple):
    """Scale, above 0, and shape, from -1."""

    scale: float
    shape: float


def fit_pareto(excesses: Array) -> Pareto:
    """By maximum likelihood (Grimshaw 1993), among shapes of -1 and more.

    With t = shape / scale the likelihood for the best shape, mean log(1 + t x), has one variable. Below -1 it
    has no maximum: the density at the largest excess grows without end.

    Args:
        excesses: (N,) above 0.
    """
    values = excesses / excesses.max()
    lowest, highest = -1 + 1e-9, _HEAVIEST / values.mean()
    grid = np.concatenate([lowest + np.geomspace(1e-9, 1 - 1e-9, _GRID), np.geomspace(1e-6, highest, _GRID)])
    allowed = [place for place in grid if _shape(place, values) >= -1]
    uniform = Pareto(1.0, -1.0)
    if not allowed:
        return _scaled(uniform, excesses)
    costs = [_cost(place, values) for place in allowed]
    best = int(np.argmin(costs))
    ends = allowed[max(best - 1, 0)], allowed[min(best + 1, len(allowed) - 1)]
    found = _fit_at(_minimum(values, *ends), values)
    # The uniform distribution on 0..1 costs log 1.
    if _negative_log(found) >= 0 or found.shape < -1:
        found = uniform
    return _scaled(found, excesses)


def log_tail(excesses: Tensor, fit: Pareto) -> Tensor:
    """Logarithm of the share beyond each excess, float64; -inf where nothing is beyond."""
    if fit.shape == 0:
        return -excesses / fit.scale
    inside = (fit.shape / fit.scale * excesses).clamp_min(-1)
    return -inside.log1p() / fit.shape


def tail_in_order(excesses: Tensor, fit: Pareto) -> Tensor:
    """The share beyond each excess, (n,) float64, and where it is 0 or 1 a number that still falls with it.

    Below an excess of 0, where all lies beyond, 1 plus the gap in scales. Beyond the end of a distribution
    that has one, the gap in scales below 0.
    """
    end = -fit.scale / fit.shape if fit.shape < 0 else float("inf")
    tail = falling_exp(log_tail(excesses.clamp(0, end), fit).clamp_min(-1e300))
    below, beyond = excesses.clamp_max(0) / fit.scale, (excesses - end).clamp_min(0) / fit.scale
    return tail - below - beyond


def _shape(place: float, values: Array) -> float:
    return float(np.log1p(place * values).mean())


def _cost(place: float, values: Array) -> float:
    """Mean negative log likelihood at t = `place`, with the shape that is best there."""
    return _negative_log(_fit_at(place, values))


def _fit_at(place: float, values: Array) -> Pareto:
    mean = float(values.mean())
    if abs(place) * mean < _EXPONENTIAL:
        return Pareto(mean, 0.0)
    shape = _shape(place, values)
    return Pareto(shape / place, shape)


def _negative_log(fit: Pareto) -> float:
    return float(np.log(fit.scale)) + 1 + fit.shape


def _slope(place: float, values: Array) -> float:
    """Of `_cost`."""
    shape = _shape(place, values)
    growth = float((values / (1 + place * values)).mean())
    return growth / shape - 1 / place + growth


def _minimum(values: Array, low: float, high: float) -> float:
    """Where the cost is smallest between two places around it, by halving where its slope changes sign."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if abs(middle) * values.mean() < _EXPONENTIAL:
            break
        if _slope(middle, values) > 0:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _scaled(fit: Pareto, excesses: Array) -> Pareto:
    return Pareto(fit.scale * float(excesses.max()), fit.shape)
