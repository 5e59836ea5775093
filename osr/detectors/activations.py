"""Energy after the features, or the head, have been cut. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.gathered import Gathered, Part
from osr.detectors.moments import feature_sum
from osr.detectors.quantile import Counts
from osr.detectors.selection import top_values
from osr.detectors.softmax import log_sum_exp
from osr.detectors.tracing import is_traced
from osr.errors import InputError


@dataclass(kw_only=True, eq=False)
class React(Detector):
    """Energy of the logits of min(f, c). Sun et al. 2021.

    With a lower quantile it is the two-sided form, max(min(f, c), l), of VRA (Xu et al. 2023). pytorch-ood
    takes quantiles of each feature for that; here all features together have one, as ReAct's.

    Args:
        quantile: c is this quantile of all activations of the training images, all features together.
            Published: 0.9. Of more than a million activations it is known to within 1/2048 of itself.
        lower_quantile: l is this quantile of them, below `quantile`; 0: features are not clipped from below.
    """

    name: ClassVar[str] = "react"
    needs_fit: ClassVar[bool] = True
    quantile: float
    lower_quantile: float = 0.0

    def _gather(self, images: Images) -> dict[str, Part]:
        return {"activations": Counts.of(images)}

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        shares = {"clip": self.quantile} | ({"floor": self.lower_quantile} if self.lower_quantile else {})
        quantiles = {key: found["activations"].quantile(share) for key, share in shares.items()}
        return {
            key: torch.tensor([value], dtype=torch.float32, device=found.device)
            for key, value in quantiles.items()
        }

    def _score(self, batch: Batch) -> Tensor:
        features = batch.features.minimum(self._state["clip"])
        if self.lower_quantile:
            features = features.maximum(self._state["floor"])
        return _energy(features, batch.weight, batch.bias)


@dataclass(kw_only=True, eq=False)
class Ash(Detector):
    """Energy of the logits of features of which only the largest stay. Djurisic et al. 2023.

    k = D - round(D * pruned_fraction), at least 1, features stay: those at least as large as the k-th
    largest.
    P: they stay as they are. S: they are multiplied by exp(sum before / sum after). B: each becomes the sum
    before divided by their number; features that are 0 never stay.

    Args:
        variant: P, S or B.
        pruned_fraction: share of the features set to 0, below 1. Published: 0.9 on ImageNet.

    S and B are made for features behind a ReLU: `fit` and `score` refuse negative ones.
    """

    name: ClassVar[str] = "ash"
    variant: Literal["S", "B", "P"]
    pruned_fraction: float

    def _gather(self, images: Images) -> dict[str, Part]:
        for batch in images.batches():
            self._check(batch)
        return {}

    def _score(self, batch: Batch) -> Tensor:
        self._check(batch)
        features = batch.features
        bound = top_values(features, _num_kept(features.shape[1], self.pruned_fraction)).amin(1, keepdim=True)
        if self.variant == "B":
            # A bound of 0 means that fewer than k features are active.
            bound = bound.clamp_min(torch.finfo(torch.float32).tiny)
        # Written as floats at once: several times faster than torch.where.
        kept = torch.ge(features, bound, out=torch.empty_like(features))
        if self.variant == "B":
            filled = features.sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp_min(1)
            return _energy(kept.mul_(filled), batch.weight, batch.bias)
        kept.mul_(features)
        if self.variant == "P":
            return _energy(kept, batch.weight, batch.bias)
        factor = _sharpening(features.sum(1, keepdim=True), kept.sum(1, keepdim=True))
        return -log_sum_exp((kept @ batch.weight.T).mul_(factor).add_(batch.bias))

    def _check(self, batch: Batch) -> None:
        if self.variant != "P":
            _refuse_negative(batch.features, self.name)


@dataclass(kw_only=True, eq=False)
class Scale(Detector):
    """Energy of the logits of f exp(sum of f / sum of the largest features of f). Xu et al. 2024.

    The sum below is over k = D - round(D * pruned_fraction), at least 1, features; none is set to 0. The
    logits need no second product with the head: they are r (z - b) + b.

    Args:
        pruned_fraction: share of the features left out of the sum below, below 1. Published: 0.85.

    Made for features behind a ReLU: `fit` and `score` refuse negative ones.
    """

    name: ClassVar[str] = "scale"
    pruned_fraction: float

    def _gather(self, images: Images) -> dict[str, Part]:
        for batch in images.batches():
            _refuse_negative(batch.features, self.name)
        return {}

    def _score(self, batch: Batch) -> Tensor:
        features = batch.features
        _refuse_negative(features, self.name)
        top = top_values(features, _num_kept(features.shape[1], self.pruned_fraction))
        factor = _sharpening(features.sum(1, keepdim=True), top.sum(1, keepdim=True))
        return -log_sum_exp((batch.logits - batch.bias).mul_(factor).add_(batch.bias))


@dataclass(kw_only=True, eq=False)
class Dice(Detector):
    """Energy of the logits of a head of which only the weights that contribute most stay. Sun and Li 2022.

    The contribution of weight w_cd is w_cd times the mean training feature d.

    Args:
        masked_fraction: share of all weights set to 0. Published: 0.9.
    """

    name: ClassVar[str] = "dice"
    needs_fit: ClassVar[bool] = True
    masked_fraction: float

    def _gather(self, images: Images) -> dict[str, Part]:
        return {"sum": feature_sum(images)}

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        weight, _ = found.head
        contribution = weight * (found["sum"] / found.count)
        bound = float(np.quantile(contribution.cpu().numpy(), self.masked_fraction))
        return {"weight": torch.where(contribution > bound, weight, 0.0).float()}

    def _score(self, batch: Batch) -> Tensor:
        return _energy(batch.features, self._state["weight"], batch.bias)


def _energy(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return -log_sum_exp(torch.addmm(bias, features, weight.T))


def _num_kept(num_features: int, pruned_fraction: float) -> int:
    return max(1, num_features - round(num_features * pruned_fraction))


def _sharpening(before: Tensor, after: Tensor) -> Tensor:
    """exp(before / after), and 1 for features of zeros."""
    return torch.where(after > 0, before / after, 0.0).exp_()


def _refuse_negative(features: Tensor, detector: str) -> None:
    if not is_traced() and bool((features.amin() < 0).item()):
        raise InputError(
            f"{detector} is defined for features behind a ReLU, but these reach down to "
            f"{float(features.amin()):g}: use model.neck.name: linear, or leave {detector} out of "
            "detectors.enabled."
        )
