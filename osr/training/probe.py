"""A linear probe: the head alone, as a logistic regression on the features of a frozen backbone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from osr.errors import InputError
from osr.outputs import FloatArray, IntArray
from osr.training.settings import ProbeSettings

PATIENCE = 2  # penalties in a row that may be worse than the best
TOLERANCE = 1e-4  # largest slope at which a fit has converged; scikit-learn's own
MAX_ITERATIONS = 1000  # of L-BFGS in a fit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LinearFit:
    """A linear classifier, and how good it is.

    Args:
        weight: (K, D) float64.
        bias: (K,) float64; zeros without one.
        row: penalty, train/loss, train/accuracy, val/loss, val/accuracy.
    """

    weight: Floats
    bias: Floats
    row: dict[str, float]


def fit_probes(
    train: tuple[FloatArray, IntArray],
    val: tuple[FloatArray, IntArray],
    *,
    num_classes: int,
    bias: bool,
    settings: ProbeSettings,
    tolerance: float = TOLERANCE,
) -> list[LinearFit]:
    """A fit per penalty: min over W, b of mean cross-entropy + penalty / 2 |W|².

    Penalties are tried from the largest down, each from the fit before, until the loss on validation knowns
    has risen `PATIENCE` times.

    The features are divided by their standard deviation, and with a bias centred, so that one penalty means
    the same for every backbone; the fits are for the features as they came. Nothing is drawn at random.

    Args:
        train: (N, D) features and (N,) labels in 0..K-1, each class among them.
        val: the same of validation knowns.
        num_classes: K, at least 2.
        bias: whether the logits have one.
        settings: the penalties.
        tolerance: largest slope at which a fit has converged, above 0.

    Raises:
        InputError: a fit did not converge.
    """
    features, labels = train
    spread = features.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0)  # constant features tell nothing
    centre = features.mean(axis=0, dtype=np.float64) if bias else np.zeros(features.shape[1])
    scaled = np.multiply(features - centre.astype(np.float32), scale.astype(np.float32), dtype=np.float32)
    fits = []
    start: Any = None
    for penalty in sorted(settings.penalties, reverse=True):
        start = _regression(scaled, labels, penalty, bias=bias, tolerance=tolerance, start=start)
        weight, offset = _all_classes(start.coef_.astype(np.float64), np.ravel(start.intercept_), num_classes)
        weight = weight * scale
        offset = offset - weight @ centre if bias else np.zeros(num_classes)
        row = {"penalty": penalty}
        for name, part in (("train", train), ("val", val)):
            row[f"{name}/loss"], row[f"{name}/accuracy"] = quality(weight, offset, *part)
        fits.append(LinearFit(weight, offset, row))
        if len(fits) - 1 - best_of(fits) >= PATIENCE:
            break
    return fits


def best_of(fits: list[LinearFit]) -> int:
    """The position of the fit with the smallest loss on validation knowns; of equals the larger penalty."""
    return int(np.argmin([fit.row["val/loss"] for fit in fits]))


def _regression(
    features: FloatArray, labels: IntArray, penalty: float, *, bias: bool, tolerance: float, start: Any
) -> Any:
    """Scikit-learn's fit, from that of the penalty before."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # Of two classes scikit-learn fits the difference of their weights, whose square is twice theirs.
    strength = (2 if len(np.unique(labels)) == 2 else 1) / (penalty * len(features))
    options = {"tol": tolerance, "max_iter": MAX_ITERATIONS, "fit_intercept": bias}
    regression = start or LogisticRegression(warm_start=True, **options)
    regression.set_params(C=strength)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return regression.fit(features, labels)
        except ConvergenceWarning as error:
            raise InputError(
                f"The probe with penalty {penalty:g} has not converged in {MAX_ITERATIONS} iterations: leave "
                "this penalty out of train.probe.penalties."
            ) from error


def _all_classes(weight: Floats, bias: Floats, num_classes: int) -> tuple[Floats, Floats]:
    """(K, D) and (K,): of two classes scikit-learn keeps the difference."""
    if num_classes == 2:
        return np.vstack([-weight, weight]) / 2, np.array([-bias[0], bias[0]]) / 2
    return weight, bias


def quality(weight: Floats, bias: Floats, features: FloatArray, labels: IntArray) -> tuple[float, float]:
    """Mean cross-entropy, and accuracy."""
    logits = features @ weight.T.astype(np.float32) + bias
    right = logits[np.arange(len(labels)), labels]
    loss = logsumexp(logits, axis=1) - right
    return float(loss.mean()), float((logits.argmax(axis=1) == labels).mean())
