"""Scores of the network's outputs alone, nothing to fit. p = softmax(z). Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.gathered import Part
from osr.detectors.selection import top_values
from osr.detectors.softmax import falling_exp, log_sum_exp, shifted, split_exponentials, with_confident
from osr.errors import InputError


class Msp(Detector):
    """1 - max p. Hendrycks and Gimpel 2017.

    Computed as r / (1 + r) with r the sum of exp(z - max z) over the other classes: very confident images
    keep their order, where 1 - max p would give all of them 0. An r below e^-700, which float64 has no number
    for at last, is told apart by its logarithm: see `falling_exp`.
    """

    name: ClassVar[str] = "msp"

    def _score(self, batch: Batch) -> Tensor:
        _, _, rest = split_exponentials(batch.logits)
        return with_confident(rest / (1 + rest), batch.logits, rest, lambda _, log_rest: log_rest)


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
            return -log_sum_exp(batch.logits)
        return -self.temperature * log_sum_exp(batch.logits / self.temperature)


class Entropy(Detector):
    """-sum p log p, the Shannon entropy of the softmax, from 0 to log K.

    Computed as log(1 + r) - sum(p y), y = z - max z and r as in `Msp`: no term is negative. For very
    confident images that is r (1 - mean of y over the other classes, weighted by p).
    """

    name: ClassVar[str] = "entropy"

    def _score(self, batch: Batch) -> Tensor:
        others, largest, rest = split_exponentials(batch.logits)
        moved = others.mul_(shifted(batch.logits)).sum(1).double() / (largest * (1 + rest))
        return with_confident(rest.log1p() - moved, batch.logits, rest, self._log_score)

    @staticmethod
    def _log_score(below: Tensor, log_rest: Tensor) -> Tensor:
        share = (below - log_rest[:, None]).exp().masked_fill(below == 0, 0.0)
        return log_rest + (share * below).sum(1).neg().log1p()


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
        below = self._top(batch.logits - batch.logits.amax(1, keepdim=True))
        log_p = below - rest.log1p()[:, None].float()
        log_terms = log_p.exp().neg_().log1p_().add_(log_p)
        # Where p is nearly 1, 1 - p is known from the other classes only.
        largest = (rest / (1 + rest).square()).log()[:, None].float()
        scores = torch.where(below == 0, largest, log_terms).mul_(self.gamma).exp_().sum(1)
        return with_confident(scores.double(), batch.logits, rest, self._log_score)

    def _top(self, below: Tensor) -> Tensor:
        return below if below.shape[1] <= self.num_top else top_values(below, self.num_top)

    def _log_score(self, below: Tensor, log_rest: Tensor) -> Tensor:
        top = self._top(below)
        return torch.where(top == 0, log_rest[:, None], top).mul_(self.gamma).logsumexp(1)


class KPlus1(Detector):
    """P(extra class), for networks that were trained with one: the softmax over K + 1. Zhou et al. 2021.

    exp(e) / (exp(e) + sum exp(z)), e the largest logit of the extra classes, computed as
    sigmoid(e - logsumexp(z)); images that are surely known keep their order as in `Msp`.

    `fit` and `score` refuse outputs without an extra class.
    """

    name: ClassVar[str] = "kplus1"

    def _gather(self, images: Images) -> dict[str, Part]:
        _refuse_no_extra_class(images.outputs.extra_logits.shape[1], self.name)
        return {}

    def _score(self, batch: Batch) -> Tensor:
        _refuse_no_extra_class(batch.extra_logits.shape[1], self.name)
        log_odds = batch.extra_logits.amax(1).double() - log_sum_exp(batch.logits)
        return falling_exp(log_odds.clamp_max(0)) / (1 + log_odds.abs().neg().exp())


class GradNorm(Detector):
    """-|f|_1 |K p - 1|_1, the L1 norm of a last-layer gradient in closed form. Huang et al. 2021.

    It is the gradient, with respect to the head's weight, of the cross entropy summed over all K classes.
    """

    name: ClassVar[str] = "gradnorm"

    def _score(self, batch: Batch) -> Tensor:
        # K p - 1 is all that is left of K p where the logits are nearly equal.
        excess = batch.logits.double().softmax(1).mul_(batch.logits.shape[1]).sub_(1)
        return -batch.features.abs().sum(1).double() * excess.abs_().sum(1)


def _refuse_no_extra_class(num_extra: int, detector: str) -> None:
    if not num_extra:
        raise InputError(
            f"{detector} reads the extra class of a network, but this one has none (model.head.extra_classes "
            f"is 0): train with a loss that learns one, or leave {detector} out of detectors.enabled."
        )
