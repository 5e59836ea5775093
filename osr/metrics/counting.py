"""One sort of all scores, and how many images stand at or below each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WINDOW = 1 << 15  # scores that are counted at a time: they fit in the processor's cache
# Rows of counts that are summed at a time; larger arrays would be fresh memory each time, which costs more.
ROWS = 1 << 13


def sort_runs(*runs: Array) -> tuple[Array, NDArray[np.int64]]:
    """All scores, rising, and where each stands when every run is sorted and put behind the one before.

    Sorting the runs and merging them (a stable sort sees the runs) takes half the time of one argsort.
    """
    scores = np.concatenate(runs)
    for run in np.split(scores, np.cumsum([len(run) for run in runs[:-1]])):
        run.sort()
    order = np.argsort(scores, kind="stable")
    return scores[order], order


def count_rows(
    scores: Array, order: NDArray[np.int64], *, num_right: int, num_known: int
) -> tuple[Array, Array, Array, Array]:
    """Count the images up to each distinct score, window by window: fresh memory is what costs time here.

    Args:
        scores: (N,) rising; overwritten, its beginning becomes the thresholds.
        order: (N,) below num_right: an image accepted right, below num_known: a known one.
        num_right: see `order`.
        num_known: see `order`.

    Returns:
        The fields of `osr.metrics.thresholds.Acceptance`: (G,) distinct scores, and (G + 1,) known images,
        known ones that are right, and unknown ones up to each, from none on.
    """
    count_type = np.int32 if len(scores) < 2**31 else np.int64
    known, correct, unknown = (np.zeros(len(scores) + 1, count_type) for _ in range(3))
    row = 0
    known_before = right_before = 0
    for start in range(0, len(scores), WINDOW):
        part = scores[start : start + WINDOW + 1]  # with the score behind the window, if there is one
        last_of_ties = np.flatnonzero(np.append(part[1:] != part[:-1], start + WINDOW >= len(scores)))
        places = order[start : start + WINDOW]
        known_now: Array = np.cumsum(places < num_known, dtype=count_type) + known_before
        right_now: Array = np.cumsum(places < num_right, dtype=count_type) + right_before
        end = row + len(last_of_ties)
        scores[row:end] = part[last_of_ties]
        known[row + 1 : end + 1] = known_now[last_of_ties]
        correct[row + 1 : end + 1] = right_now[last_of_ties]
        unknown[row + 1 : end + 1] = start + 1 + last_of_ties
        row, known_before, right_before = end, int(known_now[-1]), int(right_now[-1])
    np.subtract(unknown, known, out=unknown)
    return scores[:row], known[: row + 1], correct[: row + 1], unknown[: row + 1]


def windows(num_rows: int) -> Iterator[slice]:
    """Runs of rows of counts that fit in the processor's cache; each begins with the last of the one before.

    Args:
        num_rows: G, of arrays (G + 1,).
    """
    for start in range(0, num_rows, ROWS):
        yield slice(start, start + ROWS + 1)


def dot(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The scalar product without BLAS, whose last bits depend on the number of its threads."""
    return float(np.einsum("i,i->", first, second))
