"""Calibrations by name: maps from logits to logits whose softmax means what it says.

They are fitted on validation images of known classes, and judged on folds of them that they have not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from osr.calibration.isotonic import fit_isotonic
from osr.calibration.probabilities import checked_labels, fit_temperature, probability_quality
from osr.calibration.settings import CalibrationMethod as Method
from osr.calibration.vector_scaling import fit_vector
from osr.errors import InputError

Array = NDArray[Any]
FloatArray = NDArray[np.float64]
Bracket = tuple[float, float]

# Wide enough for any network whose logits are not scaled by hand; of a vector the weights are 1 / these.
TEMPERATURES: Bracket = (0.01, 100.0)

TEMPERATURE_LEFT_OPEN = (
    "no validation image is misclassified: a smaller temperature is always better, and none is the best"
)
WEIGHTS_LEFT_OPEN = (
    "with its weights and offsets no validation image is misclassified, so that larger ones are always "
    "better and none are the best"
)


class Calibration(Protocol):
    """A dataclass of numbers that is stored as JSON; `apply` is what it does."""

    method: ClassVar[Method]

    def apply(self, logits: Array) -> FloatArray:
        """(N, K) logits to (N, K) float64 calibrated ones: their softmax is the probabilities."""


@dataclass(frozen=True)
class Temperature:
    """z / T. Guo et al. 2017.

    Args:
        temperature: T, above 0; 1 leaves everything as it is.
    """

    method: ClassVar[Method] = "temperature"
    temperature: float

    def apply(self, logits: Array) -> FloatArray:
        """The logits divided by T; the most probable class never changes."""
        return np.asarray(logits, np.float64) / self.temperature


@dataclass(frozen=True)
class Vector:
    """w z + b with one weight and one offset per class: vector scaling. Guo et al. 2017.

    Args:
        scale: K numbers w.
        offset: K numbers b.
    """

    method: ClassVar[Method] = "vector"
    scale: tuple[float, ...]
    offset: tuple[float, ...]

    def apply(self, logits: Array) -> FloatArray:
        """Weighted and moved logits; another class may become the most probable one."""
        return np.asarray(logits, np.float64) * self.scale + self.offset


@dataclass(frozen=True)
class Isotonic:
    """max p becomes g(max p), g rising; the other classes share the rest as before. Zadrozny and Elkan 2002.

    g is linear between its knots and constant outside.

    Args:
        knots: rising values of max p.
        values: g there, between 0 and 1, both left out: no image has probability 0.
    """

    method: ClassVar[Method] = "isotonic"
    knots: tuple[float, ...]
    values: tuple[float, ...]

    def apply(self, logits: Array) -> FloatArray:
        """Logarithms of the calibrated probabilities."""
        result = np.asarray(log_softmax(np.asarray(logits, np.float64), axis=1))
        if result.shape[1] == 1:
            return result
        rows, top = np.arange(len(result)), logits.argmax(axis=1)
        share = np.interp(np.exp(result[rows, top]), self.knots, self.values)
        result[rows, top] = -np.inf
        result = np.asarray(log_softmax(result, axis=1)) + np.log1p(-share)[:, None]
        result[rows, top] = np.log(share)
        return np.asarray(result)


CALIBRATIONS: dict[str, type[Temperature | Vector | Isotonic]] = {
    cls.method: cls for cls in (Temperature, Vector, Isotonic)
}


@dataclass(frozen=True)
class CalibrationFit:
    """A calibration, and why it or nothing is used.

    Args:
        calibration: what to use; temperature 1 where nothing is.
        asked: the method that was to be fitted.
        not_used: why it is not used; None where it is, or where `none` was asked for.
        at_bound: which end of its bracket stopped the fit that is used; None where none did.
        num_images: validation images that it was made from.
        nll_before: mean NLL of these images without calibration, in nats.
        nll_held_out: the same after calibration, each image by what the other folds determine; equal to
            nll_before for `none`, for one image or group, and where the images determine nothing.
    """

    calibration: Calibration
    asked: Method
    not_used: str | None
    at_bound: str | None
    num_images: int
    nll_before: float
    nll_held_out: float

    def to_json(self) -> dict[str, Any]:
        """What `osr.calibration.files` stores."""
        content = {key: value for key, value in vars(self).items() if key != "calibration"}
        return {"method": self.calibration.method, "settings": vars(self.calibration), **content}


def fit_calibration(
    logits: Array,
    labels: ArrayLike,
    *,
    method: Method,
    folds: int,
    bracket: Bracket = TEMPERATURES,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> CalibrationFit:
    """Fit a calibration, and use it only if it makes the NLL of held-out folds smaller.

    Images that leave it open (`_fit`) are not calibrated: neither all of them nor those of some folds. Frames
    of one track are no held-out images of each other, so folds never divide a group.

    Args:
        logits: (N, K) finite floats of validation images of known classes.
        labels: (N,) int in 0..K-1: unknown (-1) and background (-2) images must be left out.
        method: which.
        folds: in how many parts the images are divided; effectively at most N, or the number of groups.
        bracket: lowest and highest temperature, around 1; a vector's weights are 1 / these at most and least.
        seed: of the division.
        groups: (N,) integers, the group of each image; None where each stands for itself.

    Raises:
        InputError: no images, a label outside 0..K-1, a logit that is not finite, a bracket without 1, or
            groups of other images.
    """
    classes = checked_labels(logits, labels)
    units = _units(groups, len(classes))
    before = mean_nll(logits, classes)
    if method == "none":
        return CalibrationFit(Temperature(1.0), method, None, None, len(classes), before, before)
    fit, held_out = _fit(logits, classes, method, bracket), before
    reason = fit.left_open
    if not units.any():
        what = "validation image" if groups is None else "group of validation images"
        reason = f"there is one {what} only, and none to judge it by"
    elif reason is None:
        held_out = _held_out_nll(logits, classes, method, bracket, units, folds=folds, seed=seed)
        if not held_out < before:
            reason = f"held-out validation images have an NLL of {held_out:.4g} with it, {before:.4g} without"
    used, at_bound = (fit.used, fit.at_bound) if reason is None else (Temperature(1.0), None)
    return CalibrationFit(used, method, reason, at_bound, len(classes), before, held_out)


def mean_nll(logits: Array, classes: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood of softmax(logits), in nats."""
    return float(probability_quality(logits, classes, 1.0)[1].mean())


@dataclass(frozen=True)
class _Fit:
    """A calibration; why the images leave it open, if they do; which end of its bracket stopped it."""

    calibration: Calibration
    left_open: str | None = None
    at_bound: str | None = None

    @property
    def used(self) -> Calibration:
        return self.calibration if self.left_open is None else Temperature(1.0)


def _fit(logits: Array, classes: NDArray[np.int64], method: Method, bracket: Bracket) -> _Fit:
    if method == "isotonic":
        return _Fit(Isotonic(*fit_isotonic(logits, classes)))
    if method == "vector":
        found = fit_vector(logits, classes, lowest=1 / bracket[1], highest=1 / bracket[0])
        vector = Vector(tuple(found.weight.tolist()), tuple(found.offset.tolist()))
        left_open = WEIGHTS_LEFT_OPEN if found.separated else None
        return _Fit(vector, left_open, _bound(bracket, found.at_highest, found.at_lowest))
    fit = fit_temperature(logits, classes, min_temperature=bracket[0], max_temperature=bracket[1])
    low, high = fit.at_bound and fit.temperature < 1, fit.at_bound and fit.temperature > 1
    left_open = TEMPERATURE_LEFT_OPEN if fit.separated else None
    return _Fit(Temperature(fit.temperature), left_open, _bound(bracket, low, high))


def _bound(bracket: Bracket, at_lowest: bool, at_highest: bool) -> str | None:
    names = ("the lowest temperature", "the highest temperature")
    ends = [
        f"{name}, {end:g}"
        for name, end, reached in zip(names, bracket, (at_lowest, at_highest), strict=True)
        if reached
    ]
    return f"the NLL still falls at {' and at '.join(ends)}" if ends else None


def _units(groups: ArrayLike | None, num_images: int) -> NDArray[np.int64]:
    """(N,) the number of each image's group, without gaps; of the image itself without groups."""
    if groups is None:
        return np.arange(num_images)
    found = np.asarray(groups)
    if found.shape != (num_images,) or found.dtype.kind not in "iu":
        raise InputError(f"Groups must be {num_images} integers, not {found.dtype} of shape {found.shape}.")
    return np.unique(found, return_inverse=True)[1]


def _held_out_nll(
    logits: Array,
    classes: NDArray[np.int64],
    method: Method,
    bracket: Bracket,
    units: NDArray[np.int64],
    *,
    folds: int,
    seed: int,
) -> float:
    """Mean NLL, each of at least two units judged by what the other folds determine, if anything."""
    order = np.random.default_rng(seed).permutation(int(units.max()) + 1)
    unit_by_unit = np.argsort(np.argsort(order)[units], kind="stable")
    total = 0.0
    for chosen in np.array_split(order, min(folds, len(order))):
        rows = unit_by_unit[np.isin(units[unit_by_unit], chosen)]
        others = np.setdiff1d(unit_by_unit, rows)
        calibration = _fit(logits[others], classes[others], method, bracket).used
        total += mean_nll(calibration.apply(logits[rows]), classes[rows]) * len(rows)
    return total / len(classes)
