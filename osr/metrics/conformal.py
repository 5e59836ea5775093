"""What the scores of validation knowns promise of new images: a threshold that accepts a share, and p-values.

Higher score = more unknown; accept as known when s <= theta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError

Array = NDArray[Any]
Theta = float | tuple[float, ...]  # one for all classes, or one for each
Rule = Literal["acceptance", "conformal", "conformal_per_class", "background"]


@dataclass(frozen=True)
class Threshold:
    """A threshold and what it was made from; `asdict` and `Threshold(**stored)` carry it through JSON.

    Args:
        value: theta; an image is accepted as known when its score is <= theta. With thresholds per class the
            largest of them.
        rule: acceptance, conformal, conformal_per_class or background.
        target: share of validation knowns, of new known images, or of background images that was to be
            accepted, in 0..1.
        acceptance: share of validation knowns that theta accepts.
        num_images: how many validation knowns there were.
        false_acceptance: share of background images that theta accepts; None under the other rules.
        num_background: how many of these there were; none of them was trained on.
        num_groups: how many groups the validation knowns stand in; None where each stands for itself.
        per_class: K thresholds, each of the images that are predicted as this class; None under other rules.
    """

    value: float
    rule: Rule
    target: float
    acceptance: float
    num_images: int
    false_acceptance: float | None = None
    num_background: int = 0
    num_groups: int | None = None
    per_class: tuple[float, ...] | None = None

    @property
    def theta(self) -> Theta:
        """The one number of all classes, or K numbers."""
        return self.value if self.per_class is None else self.per_class

    def at(self, predictions: Array) -> float | Array:
        """Theta by the predicted classes (N,) in 0..K-1: (N,) float64, or the one number of all classes."""
        return theta_at(self.theta, predictions)


def theta_at(theta: Theta, predictions: Array) -> float | Array:
    """The threshold of each of N images by its predicted class; where there is one for all, that one.

    Args:
        theta: one number, or K.
        predictions: (N,) int in 0..K-1.
    """
    return np.array(theta)[predictions] if isinstance(theta, tuple) else theta


def fit_threshold(
    scores: ArrayLike, *, target_acceptance: float, conformal: bool = False, groups: ArrayLike | None = None
) -> Threshold:
    """The smallest theta that accepts at least `target_acceptance` of the knowns.

    Of the validation knowns themselves: counts images, interpolates nothing and is exact under ties; above
    the target by less than one image, or by as many as tie at theta. Conformal, of new known images: the
    rank is taken among n + 1, so that an image exchangeable with the validation knowns is accepted with at
    least this probability, whatever their distribution (split conformal prediction, Vovk et al. 2005;
    Papadopoulos et al. 2002). With groups every group weighs the same among G + 1, and the promise is of an
    image of a new group (Lee, Barber and Willett 2023). Theta is always one of the scores.

    Args:
        scores: (N,) real, scores of validation images of known classes; infinities sort.
        target_acceptance: in 0..1, above 0; below 1 if conformal.
        conformal: which of the two.
        groups: (N,) integers, the group of each image; None where each stands for itself. The rule that
            promises nothing beyond these images only counts them.

    Raises:
        InputError: no scores, a NaN among them, a target outside its range, too few for the guarantee, or
            groups of other images.
    """
    if not 0 < target_acceptance <= 1:
        raise InputError(f"target_acceptance must be above 0 and at most 1, not {target_acceptance}.")
    checked = checked_scores(scores, name="scores of validation knowns")
    weights, count = equal_shares(groups, len(checked))
    if conformal:
        value = _conformal_theta(checked, weights, count, target_acceptance, grouped=groups is not None)
    else:
        place = required_count(target_acceptance, len(checked)) - 1
        value = float(np.partition(checked, place)[place])
    return Threshold(
        value=value,
        rule="conformal" if conformal else "acceptance",
        target=float(target_acceptance),
        acceptance=accepted_share(checked, value),
        num_images=len(checked),
        num_groups=None if groups is None else count,
    )


def fit_class_thresholds(
    scores: ArrayLike,
    predictions: ArrayLike,
    *,
    class_names: Sequence[str],
    target_acceptance: float,
    groups: ArrayLike | None = None,
) -> Threshold:
    """A conformal theta for each predicted class, from the validation knowns that are predicted as it.

    Of new known images that are predicted as a class, whatever class they are of, each theta accepts at least
    `target_acceptance`: Mondrian conformal prediction (Vovk et al. 2005), whose categories are the predicted
    classes. A class that is rare or hard is then rejected no more often than the others.

    Args:
        scores: (N,) real, of validation images of known classes.
        predictions: (N,) int in 0..K-1, their predicted classes.
        class_names: K names, for the errors.
        target_acceptance: above 0 and below 1.
        groups: (N,) integers, the group of each image; None where each stands for itself.

    Raises:
        InputError: as `fit_threshold` does; or too few images are predicted as a class, which it names.
    """
    if not 0 < target_acceptance < 1:
        raise InputError(f"Thresholds per class accept a share above 0 and below 1, not {target_acceptance}.")
    checked = checked_scores(scores, name="scores of validation knowns")
    predicted, members = np.asarray(predictions), None if groups is None else np.asarray(groups)
    found = []
    for code, name in enumerate(class_names):
        rows = np.flatnonzero(predicted == code)
        count = len(rows) if members is None else len(np.unique(members[rows]))
        if count < (fewest := fewest_images(target_acceptance)):
            raise InputError(
                f"{count} {'images' if members is None else 'groups'} of known classes are predicted as "
                f"{name!r}, and a threshold per class that accepts {target_acceptance:g} of new ones needs "
                f"{fewest} at least: give more (split.val_fraction), accept less "
                "(detectors.target_acceptance), or take one threshold for all classes (rule conformal)."
            )
        of_class = fit_threshold(
            checked[rows],
            target_acceptance=target_acceptance,
            conformal=True,
            groups=None if members is None else members[rows],
        )
        found.append(of_class.value)
    thetas = np.array(found)
    return Threshold(
        value=float(thetas.max()),
        rule="conformal_per_class",
        target=float(target_acceptance),
        acceptance=float(np.mean(checked <= thetas[predicted])),
        num_images=len(checked),
        num_groups=None if members is None else len(np.unique(members)),
        per_class=tuple(found),
    )


def _conformal_theta(scores: Array, weights: Array, count: int, target: float, *, grouped: bool) -> float:
    """The smallest score below or at which images weigh `target` (count + 1); all of them weigh `count`."""
    order = np.argsort(scores, kind="stable")
    reached = np.round(np.cumsum(weights[order]), 9)  # the shares of a group add up to 1 but for rounding
    place = int(np.searchsorted(reached, target * (count + 1) * (1 - 1e-12)))
    if place == len(scores):
        raise InputError(
            f"A conformal threshold with target_acceptance {target} cannot be made from "
            f"{count} validation {'groups' if grouped else 'images'}, but from "
            f"{fewest_images(target)} at least. Raise split.val_fraction, or lower the target."
        )
    return float(scores[order[place]])


def fewest_images(target: float) -> int:
    """The least n of which a threshold can accept `target` of new images: target (n + 1) <= n.

    The largest of n scores is above that of a new image exchangeable with them with probability n / (n + 1).

    Args:
        target: share above 0 and below 1.
    """
    count = max(1, math.floor(target / (1 - target)) - 1)
    while count < target * (count + 1) * (1 - 1e-12):
        count += 1
    return count


def conformal_p_values(
    calibration: ArrayLike, scores: ArrayLike, *, groups: ArrayLike | None = None
) -> NDArray[np.float64]:
    """(1 + number of calibration scores >= s) / (n + 1): how unusual a known image would be.

    A known image exchangeable with the calibration images has a p-value of at most a with a probability of
    at most a, for every a and n (Vovk et al. 2005). Unknown images have small ones. With groups the number is
    the sum over groups of the share of their scores >= s, among G + 1, and the promise is of a known image of
    a new group that is exchangeable with those of the calibration images (Lee, Barber and Willett 2023).

    Args:
        calibration: (n,) real, scores of validation knowns.
        scores: (N,) real, N may be 0.
        groups: (n,) integers, the group of each calibration image; None where each stands for itself.

    Returns:
        (N,) float64 in 1 / (n + 1) .. 1, or 1 / (G + 1) .. 1.

    Raises:
        InputError: no calibration scores, a NaN in either, or groups of other images.
    """
    checked = checked_scores(calibration, name="scores of validation knowns")
    weights, count = equal_shares(groups, len(checked))
    order = np.argsort(checked, kind="stable")
    at_least = np.append(np.round(np.cumsum(weights[order[::-1]])[::-1], 9), 0.0)
    tested = checked_scores(scores, name="scores") if np.size(scores) else np.empty(0)
    below = np.searchsorted(checked[order], tested, side="left")
    return np.asarray((1 + at_least[below]) / (count + 1), dtype=np.float64)


def accepted_share(scores: Array, theta: float) -> float:
    """The share (0..1) of the scores that are at most theta."""
    return int(np.count_nonzero(scores <= theta)) / len(scores)


def equal_shares(groups: ArrayLike | None, num_images: int) -> tuple[NDArray[np.float64], int]:
    """What each image weighs where every group weighs 1 in all, (N,), and how many groups there are.

    Without groups every image is one.

    Raises:
        InputError: groups that are not one integer per image.
    """
    if groups is None:
        return np.ones(num_images), num_images
    found = np.asarray(groups)
    if found.shape != (num_images,) or found.dtype.kind not in "iu":
        raise InputError(f"Groups must be {num_images} integers, not {found.dtype} of shape {found.shape}.")
    _, codes, sizes = np.unique(found, return_inverse=True, return_counts=True)
    return 1 / sizes[codes], len(sizes)


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
