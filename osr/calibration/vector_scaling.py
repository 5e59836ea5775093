"""Vector scaling: one weight and one offset per class, fitted to validation knowns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.calibration.probabilities import BLOCK_ELEMENTS

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

MAX_STEPS = 500
# Of the mean NLL's slope in each parameter: a class of 1 / K of the images moves it by no more than that.
LARGEST_SLOPE = 1e-5


class VectorLoss:
    """NLL of softmax(w z + b), summed over the images, and its slope in w and b; blocks of rows at a time.

    Args:
        logits: (N, K) finite; computed in their own precision, at least float32, and summed in float64.
        classes: (N,) int64 in 0..K-1.
    """

    def __init__(self, logits: Array, classes: NDArray[np.int64]) -> None:
        self.logits, self.num_classes = logits, logits.shape[1]
        self.dtype = np.result_type(logits.dtype, np.float32)
        own = logits[np.arange(len(classes)), classes].astype(np.float64)
        # The slope of the images' own logits, which are linear in w and b.
        self.own = np.concatenate(
            [
                np.bincount(classes, own, minlength=self.num_classes),
                np.bincount(classes, minlength=self.num_classes),
            ]
        )

    def __call__(self, parameters: FloatArray) -> tuple[float, FloatArray]:
        """The mean NLL, and its slope (2 K,), at w and b, one after the other (2 K,)."""
        weight, offset = parameters.astype(self.dtype).reshape(2, -1)
        total, slope = -float(self.own @ parameters), -self.own
        step = max(1, BLOCK_ELEMENTS // self.num_classes)
        for start in range(0, len(self.logits), step):
            block = self.logits[start : start + step]
            powers = block * weight
            powers += offset
            top = powers.max(axis=1, keepdims=True)
            powers -= top
            np.exp(powers, out=powers)
            sums = powers.sum(axis=1)
            total += float(top.sum(dtype=np.float64) + np.log(sums).sum(dtype=np.float64))
            slope[self.num_classes :] += (1 / sums) @ powers
            powers *= block
            slope[: self.num_classes] += (1 / sums) @ powers
        return total / len(self.logits), slope / len(self.logits)


@dataclass(frozen=True)
class VectorFit:
    """Weights and offsets, and whether they are an optimum.

    Args:
        weight: (K,) float64.
        offset: (K,) float64, with mean 0.
        at_lowest: True when a weight is the lowest that is allowed: the NLL may still fall there.
        at_highest: the same of the highest.
        separated: True when all images are classified right: larger weights and offsets always have a smaller
            NLL, and none are the best.
    """

    weight: FloatArray
    offset: FloatArray
    at_lowest: bool
    at_highest: bool
    separated: bool


def fit_vector(logits: Array, classes: NDArray[np.int64], *, lowest: float, highest: float) -> VectorFit:
    """The weights and offsets with the smallest NLL, a convex problem, by L-BFGS-B. Guo et al. 2017.

    Args:
        logits: (N, K) finite, of validation images of known classes.
        classes: (N,) int64 in 0..K-1.
        lowest: a weight is at least this.
        highest: and at most this.
    """
    from scipy.optimize import minimize  # stages that only apply a scaling need not wait for it

    width = logits.shape[1]
    found = minimize(
        VectorLoss(logits, classes),
        np.concatenate([np.ones(width), np.zeros(width)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(lowest, highest)] * width + [(None, None)] * width,
        options={"maxiter": MAX_STEPS, "gtol": LARGEST_SLOPE},
    ).x
    weight, offset = found[:width], found[width:] - found[width:].mean()
    separated = bool(((logits * weight + offset).argmax(axis=1) == classes).all())
    at_lowest, at_highest = bool(weight.min() <= lowest), bool(weight.max() >= highest)
    return VectorFit(weight, offset, at_lowest=at_lowest, at_highest=at_highest, separated=separated)
