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
from osr.metrics.conformal import Threshold as Threshold
from osr.metrics.conformal import accepted_share
from osr.metrics.conformal import checked_scores as checked_scores
from osr.metrics.conformal import conformal_p_values as conformal_p_values
from osr.metrics.conformal import fewest_images as fewest_images
from osr.metrics.conformal import fit_class_thresholds as fit_class_thresholds
from osr.metrics.conformal import fit_threshold as fit_threshold
from osr.metrics.conformal import required_count as required_count
from osr.metrics.counting import count_rows, sort_runs

ACCEPTANCES = (0.99, 0.95, 0.9, 0.8, 0.7)  # shares of knowns, to choose from in tables

Array = NDArray[Any]


def rejection_name(acceptance: float) -> str:
    """What the share of unknown images is called that is rejected where this share of knowns is accepted."""
    return f"rejection_accepting_{100 * acceptance:g}"


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
        acceptance=accepted_share(known, value),
        num_images=len(known),
        false_acceptance=accepted_share(others, value),
        num_background=len(others),
    )


def threshold_like(
    fit: Threshold, scores: ArrayLike, background: ArrayLike | None, groups: ArrayLike | None = None
) -> Threshold:
    """The threshold that the rule and the target of another one give for these scores.

    Args:
        fit: the other one.
        scores: (N,) of validation knowns.
        background: (M,) of background images that were not trained on; for that rule only.
        groups: (N,) of the validation knowns; None where each stands for itself.

    Raises:
        InputError: as `fit_threshold` and `fit_background_threshold` do; or the rule is per class.
    """
    if fit.rule == "conformal_per_class":
        raise InputError("thresholds per class (detectors.threshold_rule) are not made without some classes")
    if fit.rule == "background":
        others = () if background is None else background
        return fit_background_threshold(scores, others, target_false_acceptance=fit.target)
    conformal = fit.rule == "conformal"
    return fit_threshold(scores, target_acceptance=fit.target, conformal=conformal, groups=groups)


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
    return _counted(known, known_correct, unknown)


def count_known(scores: ArrayLike, correct: ArrayLike) -> Acceptance:
    """The counts of known images alone, U being none; arguments and errors as in `count_accepted`."""
    known = checked_scores(scores, name="scores of known images")
    return _counted(known, correct, known[:0])


def _counted(known: Array, known_correct: ArrayLike, unknown: Array) -> Acceptance:
    correct = np.asarray(known_correct)
    if correct.shape != known.shape or correct.dtype != np.bool_:
        raise InputError(
            f"known_correct must be {len(known)} booleans, not {correct.dtype} of shape {correct.shape}."
        )
    right, wrong = known[np.flatnonzero(correct)], known[np.flatnonzero(~correct)]
    scores, order = sort_runs(right, wrong, unknown)
    return Acceptance(*count_rows(scores, order, num_right=len(right), num_known=len(known)))
