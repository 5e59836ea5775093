"""A linear head fitted to stored features: logistic regression, its penalty chosen on validation images."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.calibration.probabilities import probability_quality
from osr.errors import InputError
from osr.outputs import FloatArray, IntArray

# Weights of the mean loss against half the squared norm of the head, on features of standard deviation one.
STRENGTHS = (1.0, 10.0, 100.0, 1e3, 1e4)
MAX_STEPS = 200  # of L-BFGS for each strength, from the head of the one before


@dataclass(frozen=True)
class LinearHead:
    """Logits are `features @ weight.T + bias`.

    Args:
        weight: (K, D) float32.
        bias: (K,) float32.
        strength: the one of `STRENGTHS` that was chosen.
    """

    weight: FloatArray
    bias: FloatArray
    strength: float

    def logits(self, features: FloatArray) -> FloatArray:
        """(N, K) float32 of (N, D)."""
        return np.asarray(features @ self.weight.T + self.bias, dtype=np.float32)


def fit_head(
    features: ArrayLike, labels: IntArray, val_features: ArrayLike, val_labels: IntArray
) -> LinearHead:
    """Multinomial logistic regression with the penalty under which validation images are most likely.

    Minimises strength * mean cross-entropy + |W|^2 / 2 on standardised features; W and bias are those of the
    features as they came.

    Args:
        features: (N, D) of training images.
        labels: (N,) int64 in 0..K-1, each class present, K at least 2.
        val_features: (M, D), M at least 1.
        val_labels: (M,) int64 in 0..K-1.

    Raises:
        InputError: fewer than two classes, one without images, or no validation image.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(labels)
    if len(classes) < 2 or not np.array_equal(classes, np.arange(len(classes))) or not len(val_labels):
        raise InputError("A head needs images of at least two classes 0..K-1, and validation images.")
    train, val = np.asarray(features, np.float32), np.asarray(val_features, np.float32)
    mean, scale = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    scale = np.where(
        scale > 1e-6 * max(float(scale.max()), 1e-30), scale, np.inf
    )  # a dead feature has no say
    train, val = (((part - mean) / scale).astype(np.float32) for part in (train, val))
    solver = LogisticRegression(max_iter=MAX_STEPS, warm_start=True, tol=1e-5)
    found: list[tuple[float, LinearHead]] = []
    for strength in STRENGTHS:
        solver.set_params(C=strength / len(train))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the best of few steps is a head, too
            solver.fit(train, labels)
        head = _head(solver.coef_, solver.intercept_, strength)
        loss = probability_quality(head.logits(val), val_labels, 1.0)[1].mean()
        found.append((float(loss), head))
    head = min(found, key=lambda entry: entry[0])[1]
    weight = head.weight / scale
    return LinearHead(
        weight.astype(np.float32), (head.bias - weight @ mean).astype(np.float32), head.strength
    )


def _head(
    coefficients: NDArray[np.floating], intercepts: NDArray[np.floating], strength: float
) -> LinearHead:
    """Of two classes scikit-learn gives the difference of both rows; the halves say the same."""
    if len(coefficients) == 1:
        coefficients, intercepts = (
            np.stack([-half, half]) for half in (coefficients[0] / 2, intercepts[0] / 2)
        )
    return LinearHead(coefficients.astype(np.float32), intercepts.astype(np.float32), strength)
