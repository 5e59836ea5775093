"""Test sets drawn with replacement from that of one run, image by image or group by group."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError
from osr.metrics.groups import Groups
from osr.metrics.thresholds import Acceptance, count_accepted, count_known

Array = NDArray[Any]


def resample(
    known_scores: ArrayLike,
    known_correct: ArrayLike,
    unknown_scores: ArrayLike,
    *,
    statistic: Callable[[Acceptance], ArrayLike],
    replicates: int,
    seed: int,
    num_threads: int,
    groups: Groups | None,
) -> NDArray[np.float64]:
    """A statistic of P numbers of each resampled test set, (replicates, P) float64.

    Args:
        known_scores: (n_K,) real; higher = more unknown.
        known_correct: (n_K,) bool, whether the predicted known class is right.
        unknown_scores: (n_U,) real; n_U may be 0.
        statistic: P numbers of the counts of one test set.
        replicates: how many, at least 2.
        seed: of the draws, at least 0.
        num_threads: at least 1; changes the time, never the result.
        groups: of the images; None where each stands for itself.

    Raises:
        InputError: bad scores (see `count_accepted`), a number outside its range, groups of other images.
    """
    if replicates < 2 or seed < 0 or num_threads < 1:
        raise InputError(
            "A bootstrap needs at least 2 replicates, a seed of at least 0 and at least 1 thread, "
            f"not {replicates}, {seed} and {num_threads}."
        )
    counted = count_accepted(known_scores, known_correct, unknown_scores) if np.size(unknown_scores) else None
    thresholds = (counted or count_known(known_scores, known_correct)).thresholds
    sizes = np.size(known_scores), np.size(unknown_scores)
    if groups is not None:
        groups.check_sizes(*sizes)
    unknown_group = np.searchsorted(thresholds, unknown_scores)
    # Known images of the upper half are the ones predicted right: one count gives both kinds.
    known_group = np.searchsorted(thresholds, known_scores) + len(thresholds) * np.asarray(known_correct)

    def replicate(child: np.random.SeedSequence) -> ArrayLike:
        known_draw, unknown_draw = draw(child, *sizes) if groups is None else groups.draw(child)
        known = np.bincount(known_group[known_draw], minlength=2 * len(thresholds))
        wrong, right = known.reshape(2, -1)
        unknown = np.bincount(unknown_group[unknown_draw], minlength=len(thresholds))
        return statistic(Acceptance(thresholds, _rising(wrong + right), _rising(right), _rising(unknown)))

    children = np.random.SeedSequence(seed).spawn(replicates)
    with ThreadPoolExecutor(num_threads) as pool:
        return np.array(list(pool.map(replicate, children)))


def draw(seed: np.random.SeedSequence, num_known: int, num_unknown: int) -> tuple[Array, Array]:
    """Rows of the known (num_known,) and unknown (num_unknown,) images of one replicate, with replacement."""
    generator = np.random.default_rng(seed)
    return generator.integers(num_known, size=num_known), generator.integers(num_unknown, size=num_unknown)


def _rising(counts: Array) -> Array:
    """Running totals of (G,) counts with a leading 0, (G + 1,)."""
    totals = np.zeros(len(counts) + 1, counts.dtype)
    np.cumsum(counts, out=totals[1:])
    return totals
