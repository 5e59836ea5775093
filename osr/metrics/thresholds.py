"""What a threshold accepts, and the threshold that validation knowns ask for.

Higher score = more unknown; accept as known when s <= theta. K stands for known images, U for unknown ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError
from osr.settings.base import ThresholdRule as Rule

Array = NDArray[Any]

WINDOW = 1 << 15  # scores that are counted at a time: they fit in the processor's cache


@dataclass(frozen=True)
class Threshold:
    """A threshold and what it was made from; `asdict` and `Threshold(**stored)` carry it through JSON.

    Args:
        value: theta; an image is accepted as known when its score is <= theta.
        rule: acceptance, conformal or background.
        target: share of validation knowns, of new known images, or of background images that was to be
            accepted, in 0..1.
        acceptance: share of validation knowns that theta accepts.
        num_images: how many validation knowns there were.
        false_acceptance: share of background images that theta accepts; None under the other rules.
        num_background: how many of these there were; none of them was trained on.
    """

    value: float
    rule: Rule
    target: float
    acceptance: float
    num_images: int
    false_acceptance: float | None = None
    num_background: int = 0


def fit_threshold(scores: ArrayLike, *, target_acceptance: float, conformal: bool = False) -> Threshold:
    """The smallest theta that accepts at least `target_acceptance` of the knowns.

    Of the validation knowns themselves: counts images, interpolates nothing and is exact under ties; above
    the target by less than one image, or by as many as tie at theta. Conformal, of new known images: the
    rank is taken among n + 1, so that an image exchangeable with the validation knowns is accepted with at
    least this probability, whatever their distribution (split conformal prediction, Vovk et al. 2005;
    Papadopoulos et al. 2002). Theta is always one of the scores.

    Args:
        scores: (N,) real, scores of validation images of known classes; infinities sort.
        target_acceptance: in 0..1, above 0; below 1 if conformal.
        conformal: which of the two.

    Raises:
        InputError: no scores, a NaN among them, a target outside its range, or too few for the guarantee.
    """
    if not 0 < target_acceptance <= 1:
        raise InputError(f"target_acceptance must be above 0 and at most 1, not {target_acceptance}.")
    checked = checked_scores(scores, name="scores of validation knowns")
    count = required_count(target_acceptance, len(checked) + conformal)
    if count > len(checked):
        raise InputError(
            f"A conformal threshold with target_acceptance {target_acceptance} cannot be made from "
            f"{len(checked)} validation images: it needs n of them such that {target_acceptance} (n + 1) is "
            "at most n. Raise split.val_fraction, or lower the target."
        )
    value = float(np.partition(checked, count - 1)[count - 1])
    return Threshold(
        value=value,
        rule="conformal" if conformal else "acceptance",
        target=float(target_acceptance),
        acceptance=_share(checked, value),
        num_images=len(checked),
    )


def fit_background_threshold(
    scores: ArrayLike, background: ArrayLike, *, target_false_acceptance: float
) -> Threshold:
    """The largest theta that accepts at most `target_false_acceptance` of the background images.

    It promises nothing about unknown classes that are not like the background classes.

    Args:
        scores: (N,) real, scores of validation images of known classes: what is accepted of them is reported.
        background: (M,) real, scores of background images that were not trained on.
        target_false_acceptance: at least 0, below 1.

    Raises:
        InputError: no scores, a NaN among them, or a target outside its range.
    """
    if not 0 <= target_false_acceptance < 1:
        raise InputError(
            f"target_false_acceptance must be at least 0 and below 1, not {target_false_acceptance}."
        )
    known = checked_scores(scores, name="scores of validation knowns")
    others = checked_scores(background, name="scores of background images")
    allowed = math.floor(target_false_acceptance * len(others) * (1 + 1e-12))
    value = math.nextafter(float(np.partition(others, allowed)[allowed]), -math.inf)
    return Threshold(
        value=value,
        rule="background",
        target=float(target_false_acceptance),
        acceptance=_share(known, value),
        num_images=len(known),
        false_acceptance=_share(others, value),
        num_background=len(others),
    )


def conformal_p_values(calibration: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """(1 + number of calibration scores >= s) / (n + 1): how unusual a known image would be.

    A known image exchangeable with the calibration images has a p-value of at most a with a probability of
    at most a, for every a and n (Vovk et al. 2005). Unknown images have small ones.

    Args:
        calibration: (n,) real, scores of validation knowns.
        scores: (N,) real, N may be 0.

    Returns:
        (N,) float64 in 1 / (n + 1) .. 1.

    Raises:
        InputError: no calibration scores, or a NaN in either.
    """
    rising = np.sort(checked_scores(calibration, name="scores of validation knowns"))
    tested = checked_scores(scores, name="scores") if np.size(scores) else np.empty(0)
    below = np.searchsorted(rising, tested, side="left")
    return np.asarray((1 + len(rising) - below) / (len(rising) + 1), dtype=np.float64)


def _share(scores: Array, theta: float) -> float:
    return int(np.count_nonzero(scores <= theta)) / len(scores)


@dataclass(frozen=True)
class Acceptance:
    """How many images each threshold accepts, from none (row 0, theta = -inf) to all (last row).

    Args:
        thresholds: (G,) distinct scores, rising; row g + 1 of the counts belongs to theta = thresholds[g].
        known: (G + 1,) int, number of K with s <= theta, rising from 0.
        correct: (G + 1,) int, number of those whose known class is predicted right.
        unknown: (G + 1,) int, number of U with s <= theta.
    """

    thresholds: Array
    known: Array
    correct: Array
    unknown: Array

    @property
    def num_known(self) -> int:
        """Number of K."""
        return int(self.known[-1])

    @property
    def num_unknown(self) -> int:
        """Number of U."""
        return int(self.unknown[-1])

    def first_row(self, required: int) -> int:
        """Row of the smallest threshold that accepts at least `required` of K."""
        return int(np.searchsorted(self.known, self.known.dtype.type(required)))

    def last_row(self, allowed: int) -> int:
        """Row of the largest threshold that accepts at most `allowed` of U."""
        return int(np.searchsorted(self.unknown, self.unknown.dtype.type(allowed), side="right")) - 1


def count_accepted(
    known_scores: ArrayLike, known_correct: ArrayLike, unknown_scores: ArrayLike
) -> Acceptance:
    """Sort once and count, for every distinct score, the images it accepts.

    Args:
        known_scores: (n_K,) real, finite or infinite.
        known_correct: (n_K,) bool, whether the predicted known class is right.
        unknown_scores: (n_U,) real.

    Raises:
        InputError: a vector is empty or not a vector, a score is NaN, or known_correct is not n_K booleans.
    """
    known = checked_scores(known_scores, name="scores of known test images")
    unknown = checked_scores(unknown_scores, name="scores of unknown test images")
    correct = np.asarray(known_correct)
    if correct.shape != known.shape or correct.dtype != np.bool_:
        raise InputError(
            f"known_correct must be {len(known)} booleans, not {correct.dtype} of shape {correct.shape}."
        )
    right, wrong = known[np.flatnonzero(correct)], known[np.flatnonzero(~correct)]
    scores, order = _sort(right, wrong, unknown)
    return _count(scores, order, num_right=len(right), num_known=len(known))


def _sort(*runs: Array) -> tuple[Array, NDArray[np.int64]]:
    """All scores, rising, and where each stands when every run is sorted and put behind the one before.

    Sorting the runs and merging them (a stable sort sees the runs) takes half the time of one argsort.
    """
    scores = np.concatenate(runs)
    for run in np.split(scores, np.cumsum([len(run) for run in runs[:-1]])):
        run.sort()
    order = np.argsort(scores, kind="stable")
    return scores[order], order


def _count(scores: Array, order: NDArray[np.int64], *, num_right: int, num_known: int) -> Acceptance:
    """Count the images up to each distinct score, window by window: fresh memory is what costs time here.

    Args:
        scores: (N,) rising; overwritten, its beginning becomes the thresholds.
        order: (N,) below num_right: an image accepted right, below num_known: a known one.
        num_right: see `order`.
        num_known: see `order`.
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
    return Acceptance(scores[:row], known[: row + 1], correct[: row + 1], unknown[: row + 1])


def required_count(share: float, count: int) -> int:
    """The smallest number of `count` images that is at least the share (0..1) of them.

    The product is lowered by 1e-12 of itself: 0.07 * 100 = 7.000000000000001 must ask for 7 images, not 8.
    """
    return math.ceil(share * count * (1 - 1e-12))


def checked_scores(scores: ArrayLike, *, name: str) -> NDArray[np.floating[Any]]:
    """The scores as a (N,) floating array, uncopied where possible; `name` stands in the error.

    Raises:
        InputError: not one-dimensional, empty, not real numbers, or a NaN.
    """
    array = np.asarray(scores)
    if array.ndim != 1 or not len(array):
        raise InputError(f"The {name} must be a non-empty vector (N,), not an array of shape {array.shape}.")
    if array.dtype.kind not in "fiu":
        raise InputError(f"The {name} must be real numbers, not {array.dtype}.")
    floating: NDArray[np.floating[Any]] = array if array.dtype.kind == "f" else array.astype(np.float64)
    if num_nan := int(np.count_nonzero(np.isnan(floating))):
        raise InputError(f"The {name} must be numbers: {num_nan} of {len(array)} are NaN.")
    return floating
