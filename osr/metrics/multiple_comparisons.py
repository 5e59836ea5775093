"""Several methods at once: p-values of many tests; mean ranks over data sets and their critical difference.

One test in twenty rejects at 0.05 by chance alone; whoever compares ten methods must ask for more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Friedman:
    """Whether any of M methods differs from the others over N data sets.

    Args:
        ranks: (M,) float64 mean rank of each method, 1 = best.
        statistic: chi-square with M - 1 degrees of freedom when none differs.
        p_value: in 0..1.
    """

    ranks: FloatArray
    statistic: float
    p_value: float


def holm(p_values: ArrayLike) -> FloatArray:
    """P-values (M,) of M tests, raised so that they hold for all tests at once (Holm 1979).

    Rejecting what stays below 0.05 keeps the chance of even one false alarm below 5 %.

    Raises:
        InputError: not a vector, or a value outside 0..1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"p-values must be a vector of numbers in 0..1, not {values}.")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted


def friedman_test(values: ArrayLike) -> Friedman:
    """Mean ranks of M methods over N data sets, and whether they differ (Friedman 1937), corrected for ties.

    Args:
        values: (N, M) finite, higher = better; N and M at least 2.

    Raises:
        InputError: another shape, or a value that is not finite.
    """
    from scipy.special import chdtrc
    from scipy.stats import rankdata

    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise InputError(
            f"Friedman's test needs finite values (N, M) with N, M >= 2, not shape {table.shape}."
        )
    num_sets, num_methods = table.shape
    ranks = rankdata(-table, axis=1)
    means = ranks.mean(axis=0)
    between = num_sets**2 * float(((means - (num_methods + 1) / 2) ** 2).sum())
    within = float(((ranks - (num_methods + 1) / 2) ** 2).sum()) / (num_methods - 1)
    statistic = between / within if within else 0.0  # all values tie: nothing differs
    return Friedman(means, statistic, float(chdtrc(num_methods - 1, statistic)))


def critical_difference(num_methods: int, num_sets: int, *, significance: float = 0.05) -> float:
    """How far apart mean ranks must lie to differ (Nemenyi 1963; table in Demšar 2006).

    Args:
        num_methods: M, at least 2.
        num_sets: N data sets, at least 2.
        significance: chance of a false alarm among all pairs, in 0..1 without the ends.

    Raises:
        InputError: a number outside its range.
    """
    from scipy.stats import studentized_range

    if num_methods < 2 or num_sets < 2 or not 0 < significance < 1:
        raise InputError(
            "A critical difference needs at least 2 methods, 2 data sets and a significance in 0..1, "
            f"not {num_methods}, {num_sets} and {significance}."
        )
    quantile = float(studentized_range.ppf(1 - significance, num_methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(num_methods * (num_methods + 1) / (6 * num_sets))
