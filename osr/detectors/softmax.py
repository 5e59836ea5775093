"""The softmax in parts that lose no digits where one class has nearly all of it. Logits z, (n, K)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from osr.detectors.selection import argmax
from osr.detectors.tracing import is_traced

# exp of anything lower is 0; the clamp keeps 0 * -inf out.
_LOWEST = {torch.float32: -104.0, torch.float64: -746.0}
_MANY_CLASSES = 64
# Float32 exponentials that add up to less have lost digits, or are 0.
_CONFIDENT = 1e-30
# exp of anything below about -745 is 0 in float64.
_LOWEST_LOG = -700.0


def split_exponentials(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The exponentials, the largest apart.

    Args:
        logits: (n, K), float32 or float64.

    Returns:
        c exp(z) with 0 in place of the largest (of the first, if several are equal), (n, K), a fresh tensor,
        with c one number per image; the one left out, (n,) float64; and r = (1 - max p) / max p, the sum of
        the first divided by the second, (n,) float64. p of the other classes is
        the first over (1 + r) times the second.
    """
    # Torch's softmax is faster than its exp, but not on short rows.
    values = logits.softmax(1) if logits.shape[1] >= _MANY_CLASSES else shifted(logits).exp_()
    predicted = argmax(logits)[:, None]
    largest = values.gather(1, predicted)[:, 0].double()
    values.scatter_(1, predicted, 0.0)
    return values, largest, values.sum(1).double() / largest


def shifted(logits: Tensor) -> Tensor:
    """The logits minus the largest, clamped where their exponential is 0: (n, K), a fresh tensor."""
    return (logits - logits.amax(1, keepdim=True)).clamp_min_(_LOWEST[logits.dtype])


def log_sum_exp(logits: Tensor) -> Tensor:
    """Log sum exp(z), (n,) float64; an offset of all logits costs no digits."""
    largest = logits.amax(1, keepdim=True)
    return (logits - largest).exp_().sum(1).double().log_().add_(largest[:, 0])


def with_confident(
    scores: Tensor, logits: Tensor, rest: Tensor, log_score: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The scores (n,) float64, those of very confident images worked out anew from their logarithms.

    Args:
        scores: as float32 gives them.
        logits: (n, K).
        rest: r of `split_exponentials`.
        log_score: from z - max z, (m, K) float64, and log r, (m,) float64, of the confident images to the
            logarithm of their score, (m,) float64; r is too small to count beside 1.
    """
    if is_traced():
        return torch.where(rest < _CONFIDENT, _from_logarithms(logits, log_score), scores)
    rows = (rest < _CONFIDENT).nonzero()[:, 0]
    if not len(rows):
        return scores
    return scores.index_copy(0, rows, _from_logarithms(logits.index_select(0, rows), log_score))


def _from_logarithms(logits: Tensor, log_score: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    below = logits.double()
    below = below - below.amax(1, keepdim=True)
    log_rest = below.masked_fill(below == 0, -torch.inf).logsumexp(1)
    return falling_exp(log_score(below, log_rest))


def falling_exp(values: Tensor) -> Tensor:
    """exp(x), (n,) float64, and below -700 a positive number that falls with x, where exp(x) would reach 0.

    It differs from exp(x) by less than 1e-304, and the order of the images stays.
    """
    lowest = values.clamp_max(_LOWEST_LOG)
    return values.clamp_min(_LOWEST_LOG).exp() * (_LOWEST_LOG / lowest)
