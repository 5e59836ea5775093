"""Scores of the network's outputs alone, nothing to fit. p = softmax(z). Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.selection import argmax, top_values
from osr.errors import InputError

# exp of anything lower is 0 in float32; the clamp keeps 0 * -inf out.
_LOWEST = -104.0
_MANY_CLASSES = 64


@dataclass(kw_only=True, eq=False)
class Msp(Detector):
    """1 - max p. Hendrycks and Gimpel 2017.

    Computed as r / (1 + r) with r the sum of exp(z - max z) over the other classes: very confident images
    keep their order, where 1 - max p would give all of them 0.
    """

    name: ClassVar[str] = "msp"

    def _score(self, batch: Batch) -> Tensor:
        _, _, rest = split_exponentials(batch.logits)
        return rest / (1 + rest)


@dataclass(kw_only=True, eq=False)
class MaxLogit(Detector):
    """-max z, also called MLS. Hendrycks et al. 2022, Vaze et al. 2022."""

    name: ClassVar[str] = "maxlogit"

    def _score(self, batch: Batch) -> Tensor:
        return -batch.logits.amax(1)


@dataclass(kw_only=True, eq=False)
class Energy(Detector):
    """-T logsumexp(z / T). Liu et al. 2020.

    Args:
        temperature: T, above 0.
    """

    name: ClassVar[str] = "energy"
    temperature: float

    def _score(self, batch: Batch) -> Tensor:
        if self.temperature == 1:
            return -batch.logits.logsumexp(1)
        return -self.temperature * (batch.logits / self.temperature).logsumexp(1)


@dataclass(kw_only=True, eq=False)
class Entropy(Detector):
    """-sum p log p, the Shannon entropy of the softmax, from 0 to log K.

    Computed as log(1 + r) - sum(p y), y = z - max z and r as in `Msp`: no term is negative.
    """

    name: ClassVar[str] = "entropy"

    def _score(self, batch: Batch) -> Tensor:
        others, largest, rest = split_exponentials(batch.logits)
        return rest.log1p() - others.mul_(shifted(batch.logits)).sum(1).double() / (largest * (1 + rest))


@dataclass(kw_only=True, eq=False)
class Gen(Detector):
    """Generalised entropy: sum of p^gamma (1 - p)^gamma over the classes with the largest p. Liu et al. 2023.

    Args:
        gamma: exponent, above 0 and below 1. Published: 0.1.
        num_top: M, how many classes count; effectively min(num_top, K). Published: 100.
    """

    name: ClassVar[str] = "gen"
    gamma: float
    num_top: int

    def _score(self, batch: Batch) -> Tensor:
        _, _, rest = split_exponentials(batch.logits)
        below = shifted(batch.logits)
        if self.num_top < below.shape[1]:
            below = top_values(below, self.num_top)
        log_p = below - rest.log1p()[:, None].float()
        log_terms = log_p.exp().neg_().log1p_().add_(log_p)
        # Where p is nearly 1, 1 - p is known from the other classes only.
        largest = (rest / (1 + rest).square()).log()[:, None].float()
        return torch.where(below == 0, largest, log_terms).mul_(self.gamma).exp_().sum(1)


@dataclass(kw_only=True, eq=False)
class KPlus1(Detector):
    """P(extra class), for networks that were trained with one: the softmax over K + 1. Zhou et al. 2021.

    exp(e) / (exp(e) + sum exp(z)), e the largest logit of the extra classes, computed as
    sigmoid(e - logsumexp(z)).

    `fit` and `score` refuse outputs without an extra class.
    """

    name: ClassVar[str] = "kplus1"

    def _fit(self, images: Images) -> dict[str, Tensor]:
        _refuse_no_extra_class(images.outputs.extra_logits.shape[1], self.name)
        return {}

    def _score(self, batch: Batch) -> Tensor:
        _refuse_no_extra_class(batch.extra_logits.shape[1], self.name)
        return (batch.extra_logits.amax(1).double() - batch.logits.double().logsumexp(1)).sigmoid()


@dataclass(kw_only=True, eq=False)
class GradNorm(Detector):
    """-|f|_1 |K p - 1|_1, the L1 norm of a last-layer gradient in closed form. Huang et al. 2021.

    It is the gradient, with respect to the head's weight, of the cross entropy summed over all K classes.
    """

    name: ClassVar[str] = "gradnorm"

    def _score(self, batch: Batch) -> Tensor:
        excess = batch.logits.softmax(1).mul_(batch.logits.shape[1]).sub_(1)
        return -batch.features.abs().sum(1).double() * excess.abs_().sum(1)


def split_exponentials(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The softmax in parts that lose no digits where one class has nearly all of it.

    Args:
        logits: (n, K) float32.

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
    return (logits - logits.amax(1, keepdim=True)).clamp_min_(_LOWEST)


def _refuse_no_extra_class(num_extra: int, detector: str) -> None:
    if not num_extra:
        raise InputError(
            f"{detector} reads the extra class of a network, but this one has none (model.head.extra_classes "
            f"is 0): train with a loss that learns one, or leave {detector} out of detectors.enabled."
        )
