"""Which of many images to reject so that few of the rejected ones are known: Benjamini-Hochberg.

The p-values share one set of validation scores, so they are not independent, but positively dependent (PRDS),
which is enough: Benjamini and Yekutieli 2001; Bates, Candès, Lei, Romano and Sesia 2023.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError

_ROUNDING = 1 + 1e-12  # a q-value that is the level but for rounding is not above it


class FalseDiscovery:
    """The q-values of a list of p-values; only the distinct ones are kept, and how often each came.

    Of n validation scores come n + 1 distinct ones at most, however many images are judged. Rejecting the
    images whose q-value is at most a keeps the expected share of known images among the rejected ones at or
    below a times their share among all (Benjamini and Hochberg 1995). The images must be exchangeable with
    the validation knowns as far as they are known, and the p-values those of `conformal_p_values` without
    groups.
    """

    def __init__(self) -> None:
        self._counts = Counter[float]()

    def add(self, p_values: ArrayLike) -> None:
        """Note some more p-values (N,) in 0..1.

        Raises:
            InputError: not a vector, or a value outside 0..1.
        """
        values = np.asarray(p_values, dtype=np.float64)
        if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
            raise InputError(f"p-values must be a vector of numbers in 0..1, not {values}.")
        found, counts = np.unique(values, return_counts=True)
        self._counts.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    def q_values(self) -> dict[float, float]:
        """p-value -> the smallest level in 0..1 at which it is rejected, given all that were noted."""
        values = np.array(sorted(self._counts))
        ranks = np.cumsum([self._counts[value] for value in values.tolist()])
        raised = values * (ranks[-1] / ranks) if len(values) else values
        adjusted: NDArray[np.float64] = np.minimum.accumulate(raised[::-1])[::-1]  # the last is raised by 1
        return dict(zip(values.tolist(), adjusted.tolist(), strict=True))


def fewest_strangest(num_images: int, num_known: int, level: float) -> int:
    """How many of some images are rejected where all of these have the smallest p-value, 1 / (num_known + 1).

    Fewer are never rejected; where p-values are larger, it takes more.

    Args:
        num_images: that are judged together.
        num_known: validation scores behind the p-values.
        level: of `is_rejected`.
    """
    return max(1, math.ceil(num_images / ((num_known + 1) * level * _ROUNDING)))


def is_rejected(q_values: ArrayLike, level: float) -> NDArray[np.bool_]:
    """Whether q-values are at most the level, but for rounding; in the shape they have."""
    return np.asarray(np.asarray(q_values) <= level * _ROUNDING)
