"""How much one more image could have moved the head. Higher = more unknown."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.distances import lengths
from osr.detectors.gathered import Gathered, Part
from osr.detectors.moments import scatter
from osr.detectors.softmax import falling_exp


class Pnml(Detector):
    """Regret of the predictive normalised maximum likelihood, 0..1. Bibas et al. 2021.

    log sum_c t_c / log K, t = p / (p + (1 - p) p^k), k = q / (1 + q), and q = v' (X'X)^+ v the leverage of
    the image, v = f / |f|, X the training features of length 1. p is the network's own softmax; the published
    code takes that of the head applied to v. The pseudo-inverse, as published, does not see what an image has
    in directions that no training image has.

    sum t - 1 is the sum of t over the other classes minus 1 - t of the predicted one. Both are worked out by
    their logarithms, so that very confident images keep their order. With one class the regret is always 0.
    """

    name: ClassVar[str] = "pnml"
    needs_fit: ClassVar[bool] = True

    def _gather(self, images: Images) -> dict[str, Part]:
        origin = torch.zeros(images.num_features, dtype=torch.float64, device=images.device)
        return {"scatter": scatter(replace(images, unit=True), origin)}

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        spectrum, directions = torch.linalg.eigh(found["scatter"])
        seen = spectrum > len(spectrum) * torch.finfo(torch.float64).eps * spectrum[-1]
        return {"whitener": (directions[:, seen] / spectrum[seen].sqrt()).contiguous()}

    def _score(self, batch: Batch) -> Tensor:
        if batch.logits.shape[1] == 1:
            return batch.logits.new_zeros(batch.logits.shape[0])
        values = replace(batch, unit=True).features @ self._state["whitener"]
        leverage = lengths(values).square_()
        excess = _log_excess(batch.logits.double(), batch.predictions, leverage / (1 + leverage))
        return falling_exp(excess).log1p() / math.log(batch.logits.shape[1])


def _log_excess(logits: Tensor, predictions: Tensor, power: Tensor) -> Tensor:
    """(n,) float64, log(sum t - 1) for logits (n, K) float64, their largest (n,) and k (n,)."""
    own = predictions[:, None]
    below = logits - logits.gather(1, own)
    log_rest = below.scatter(1, own, -torch.inf).logsumexp(1)
    log_p = below - torch.nn.functional.softplus(log_rest)[:, None]
    others = (1 - power)[:, None] * log_p - (-log_p.exp()).log1p()
    others = torch.nn.functional.logsigmoid(others).scatter(1, own, -torch.inf).logsumexp(1)
    # log p = -softplus(log r) and log(1 - p) - log p = log r of the predicted class.
    lost = torch.nn.functional.logsigmoid(log_rest + power * log_p.gather(1, own)[:, 0])
    return others + (-(lost - others).clamp_max(0).exp()).log1p()
