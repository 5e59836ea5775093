"""Softmax probabilities, their quality, and the temperature that fits: p = softmax(logits / temperature)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from osr.errors import InputError

Array = NDArray[Any]
FloatArray = NDArray[np.float64]
NllSlope = tuple[float, float, float]

BLOCK_ELEMENTS = 1 << 18  # 1 MB of float32: a few such blocks stay in the cache
PILOT_ROWS = 2000
MAX_NEWTON_STEPS = 8  # then every second step halves the bracket


@dataclass(frozen=True)
class TemperatureFit:
    """A temperature and what it does to the validation knowns it was fitted on.

    Args:
        temperature: above 0; the NLL of softmax(logits / temperature) is smallest here within the bracket.
        nll_before: mean negative log-likelihood at temperature 1, in nats.
        nll_after: the same at `temperature`; never above nll_before.
        at_bound: True when `temperature` is an end of the bracket and the NLL still falls there: the data
            ask for more. Perfectly separated images do (lower end), and logits no better than chance (upper).
        separated: True when the own class of every image has the largest logit: each smaller temperature has
            a smaller NLL, and none is the best.
    """

    temperature: float
    nll_before: float
    nll_after: float
    at_bound: bool
    separated: bool


def fit_temperature(
    logits: Array, labels: ArrayLike, *, min_temperature: float, max_temperature: float
) -> TemperatureFit:
    """The temperature with the smallest NLL (Guo et al. 2017); the predicted class never changes.

    The NLL is convex in b = 1/T, so Newton steps on b inside a bracket of its slope's root cannot miss it.
    A search on about 2000 evenly spaced rows gives the start; then the whole set needs two or three passes.

    Args:
        logits: (N, K) finite, of validation images of known classes; computed in their own precision.
        labels: (N,) int in 0..K-1: unknown (-1) and background (-2) images must be left out.
        min_temperature: lower end of the bracket, above 0 and at most 1.
        max_temperature: upper end, at least 1.

    Raises:
        InputError: no images, a label outside 0..K-1, a logit that is not finite, or a bracket without 1.
    """
    if not 0 < min_temperature <= 1 <= max_temperature < math.inf:
        raise InputError(f"The bracket must be above 0 and hold 1, not {min_temperature}..{max_temperature}.")
    classes = checked_labels(logits, labels)
    before = _nll_slope(logits, classes, 1.0)
    low, high, every = 1 / max_temperature, 1 / min_temperature, max(1, len(logits) // PILOT_ROWS)
    start = _start(lambda b: _nll_slope(logits[::every], classes[::every], b), low, high)
    inverse, after = _smallest(lambda b: _nll_slope(logits, classes, b), start, low, high)
    at_bound = (inverse == low and after[1] >= 0) or (inverse == high and after[1] <= 0)
    nll_after = min(after[0], before[0])
    return TemperatureFit(1 / inverse, before[0], nll_after, at_bound, _separated(logits, classes))


def _separated(logits: Array, classes: NDArray[np.int64]) -> bool:
    """Whether the own class of every image has the largest logit, and a smaller one beside it in some."""
    own = logits[np.arange(len(classes)), classes]
    return bool((own == logits.max(axis=1)).all() and (own > logits.min(axis=1)).any())


def _nll_slope(logits: Array, classes: NDArray[np.int64], inverse: float) -> NllSlope:
    """Mean NLL at b = 1/T with its first and second derivative in b."""
    dtype = np.result_type(logits.dtype, np.float32)
    nll = slope = curvature = 0.0
    for block in softmax_blocks(logits, classes, inverse, dtype):
        nll += float(np.sum(np.log(block.total) - inverse * block.own, dtype=np.float64))
        mean = np.vecdot(block.powers, block.shifted) / block.total
        slope += float(np.sum(mean - block.own, dtype=np.float64))
        np.multiply(block.powers, block.shifted, out=block.powers)
        square = np.vecdot(block.powers, block.shifted) / block.total
        curvature += float(np.sum(square - mean**2, dtype=np.float64))
    return nll / len(logits), slope / len(logits), curvature / len(logits)


def _start(evaluate: Callable[[float], NllSlope], low: float, high: float) -> float:
    """Where a cheap convex function is smallest; 1 if it is flat."""
    # The ends come first: far out a falling slope may underflow to 0, and Newton steps creep along its tail.
    rises, falls = evaluate(low)[1] >= 0, evaluate(high)[1] <= 0
    if rises or falls:
        return 1.0 if rises and falls else low if rises else high
    return _smallest(evaluate, 1.0, low, high)[0]


def _smallest(
    evaluate: Callable[[float], NllSlope], start: float, low: float, high: float
) -> tuple[float, NllSlope]:
    """Where in low..high a convex function is smallest, and its value and derivatives next to there."""
    unseen = {low, high}
    inverse = start
    for count in itertools.count(1):
        _, slope, curvature = found = evaluate(inverse)
        unseen.discard(inverse)
        if slope == 0:
            break
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        guess = inverse - slope / curvature if curvature > 0 else math.copysign(math.inf, -slope)
        # Newton's error after a step is about the square of the step.
        if low <= guess <= high and abs(guess - inverse) <= 3e-4 * inverse:
            return guess, found
        if high - low <= 1e-6 * low:
            break
        if not low < guess < high or (count > MAX_NEWTON_STEPS and count % 2):
            end = low if slope > 0 else high
            guess = end if end in unseen else math.sqrt(low * high)
        inverse = guess
    return inverse, found


def probability_quality(
    logits: Array, classes: NDArray[np.int64], temperature: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Largest probability, NLL (nats) and Brier score (0..2) of each image, (N,) float64 each.

    Raises:
        InputError: the temperature is not above 0 and finite.
    """
    if not 0 < temperature < math.inf:
        raise InputError(f"The temperature must be above 0 and finite, not {temperature}.")
    confidence, nll, brier = np.empty((3, len(logits)))
    for block in softmax_blocks(logits, classes, 1 / temperature, np.float64):
        confidence[block.rows] = 1 / block.total
        nll[block.rows] = np.log(block.total) - block.own / temperature
        square = np.vecdot(block.powers, block.powers) / block.total**2
        brier[block.rows] = square - 2 * np.exp(block.own / temperature) / block.total + 1
    return confidence, nll, brier


def checked_labels(logits: Array, labels: ArrayLike) -> NDArray[np.int64]:
    """The labels (N,) int64 of logits (N, K), once both are fit for a softmax.

    Raises:
        InputError: no images, logits that are no finite floats (N, K), labels that are not N ints in 0..K-1.
    """
    if logits.ndim != 2 or not logits.size or logits.dtype.kind != "f":
        raise InputError(f"logits must be floats (N, K), not {logits.dtype} of shape {logits.shape}.")
    if not (np.isfinite(logits.min()) and np.isfinite(logits.max())):
        raise InputError("logits must be finite, but there is a NaN or an infinity among them.")
    return checked_classes(labels, len(logits), logits.shape[1], name="labels")


def checked_classes(classes: ArrayLike, length: int, num_classes: int, *, name: str) -> NDArray[np.int64]:
    """Known classes (length,) as int64; `name` stands in the error.

    Raises:
        InputError: not `length` whole numbers in 0..num_classes - 1: unknown and background images have none.
    """
    array = np.asarray(classes)
    if array.shape != (length,) or array.dtype.kind not in "iu":
        raise InputError(f"{name} must be {length} whole numbers, not {array.dtype} of shape {array.shape}.")
    if length and not (array.min() >= 0 and array.max() < num_classes):
        raise InputError(
            f"{name} must be known classes 0..{num_classes - 1}, but span {array.min()}..{array.max()}."
        )
    return array.astype(np.int64, copy=False)


@dataclass(frozen=True)
class SoftmaxBlock:
    """Some rows of a softmax at b = 1/T; the two large arrays are overwritten by the next block.

    Args:
        rows: which rows of the logits.
        shifted: (B, K) logits minus the largest of their row, so that no exponential overflows.
        powers: (B, K) exp(b * shifted), in 0..1.
        total: (B,) row sums of powers; powers / total are the probabilities, 1 / total the largest.
        own: (B,) `shifted` of the row's own class.
    """

    rows: slice
    shifted: Array
    powers: Array
    total: Array
    own: Array


def softmax_blocks(
    logits: Array, classes: NDArray[np.int64], inverse: float, dtype: DTypeLike
) -> Iterator[SoftmaxBlock]:
    """The softmax of all rows at b = `inverse`, computed in `dtype`, in blocks that fit the cache."""
    step = max(1, BLOCK_ELEMENTS // logits.shape[1])
    shifted, powers = np.empty((2, min(step, len(logits)), logits.shape[1]), dtype)
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        block = logits[rows]
        shifted, powers = shifted[: len(block)], powers[: len(block)]
        np.subtract(block, block.max(axis=1, keepdims=True), out=shifted, dtype=shifted.dtype)
        np.multiply(shifted, shifted.dtype.type(inverse), out=powers)
        np.exp(powers, out=powers)
        own = shifted[np.arange(len(block)), classes[rows]]
        yield SoftmaxBlock(rows, shifted, powers, powers.sum(axis=1), own)
