"""Classifier heads. All keep `logits = features @ W.T + b` exactly, so that every detector works.

A head that is no linear layer on the neck's vectors first maps them to the features on which it is one
(`embed`): the cosine head scales them to length one, the reciprocal head appends their mean square.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from osr.models.settings import HeadSettings


class Head(nn.Module):
    """(B, D) neck vectors to (B, D') features, and those to (B, K + E) logits, extra classes last.

    Extra classes stand for *not known* (`osr.losses.extra_class`). The temperature T divides the logits, in
    training and after: the loss sees z / T, as in the seed of this project (alobo01/mai-dl2, `cls_head`), and
    so do the detectors, because W and b are divided alike. `calibrate` fits another one on top.

    Args:
        num_inputs: D, width of the neck.
        num_classes: K.
        settings: the `model.head` section of params.yaml.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, num_inputs: int, num_classes: int, settings: HeadSettings) -> None:
        super().__init__()
        self.num_inputs, self.num_classes, self.settings = num_inputs, num_classes, settings
        self.num_outputs = num_classes + settings.extra_classes

    def embed(self, vectors: Tensor) -> Tensor:
        """(B, D') features: what the logits are linear in; the vectors themselves unless a head says more."""
        return vectors

    def forward(self, features: Tensor) -> Tensor:
        """(B, K + E) logits of (B, D') features."""
        return linear(features, *self.affine())

    def affine(self) -> tuple[Tensor, Tensor | None]:
        """W (K + E, D') and b (K + E,), or None for a head without bias: weight and bias over temperature."""
        weight, bias, temperature = self.weight, self.bias, self.settings.temperature
        if temperature == 1:
            return weight, bias
        return weight / temperature, None if bias is None else bias / temperature


class LinearHead(Head):
    """A linear layer, initialised as torch does."""

    def __init__(self, num_inputs: int, num_classes: int, settings: HeadSettings) -> None:
        super().__init__(num_inputs, num_classes, settings)
        layer = nn.Linear(num_inputs, self.num_outputs, bias=settings.bias)
        self.weight, self.bias = layer.weight, layer.bias


class WeightNormHead(Head):
    """weight_k = g_k v_k / |v_k| (Salimans and Kingma 2016): length and direction are learned apart.

    Starts where the linear head starts.
    """

    def __init__(self, num_inputs: int, num_classes: int, settings: HeadSettings) -> None:
        super().__init__(num_inputs, num_classes, settings)
        layer = nn.Linear(num_inputs, self.num_outputs, bias=settings.bias)
        self.direction, self.bias = layer.weight, layer.bias
        self.length = nn.Parameter(layer.weight.detach().norm(dim=1))

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(K + E, D)."""
        return normalize(self.direction, dim=1) * self.length[:, None]


class CosineHead(Head):
    """Logit k is scale * cos(vector, v_k) (NormFace, Wang et al. 2017), without bias.

    Features are the vectors scaled to length one (a zero vector stays zero) and weight_k is
    scale * v_k / |v_k|, so the logits are linear in the features as for every head.
    """

    def __init__(self, num_inputs: int, num_classes: int, settings: HeadSettings) -> None:
        super().__init__(num_inputs, num_classes, settings)
        self.direction, self.bias = nn.Linear(num_inputs, self.num_outputs, bias=False).weight, None

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(K + E, D), rows of length `scale`."""
        return self.settings.scale * normalize(self.direction, dim=1)

    def embed(self, vectors: Tensor) -> Tensor:
        """(B, D) vectors of length one."""
        return normalize(vectors, dim=1)


class ReciprocalHead(Head):
    """Logit k is the distance to the reciprocal point P_k of class k (ARPL, Chen et al. 2021), without bias.

    d(f, P_k) = |f - P_k|^2 / D - <f, P_k>: far from what class k is not. Written out, that is
    |f|^2 / D + <f, -(1 + 2 / D) P_k> + |P_k|^2 / D: with |f|^2 / D as feature D + 1 it is linear, and the
    features of this head have that one number more. Points start normal with standard deviation 0.1, as in
    the authors' code (github.com/iCGY96/ARPL, loss/Dist.py); `train.loss: arpl` is made for them.
    """

    def __init__(self, num_inputs: int, num_classes: int, settings: HeadSettings) -> None:
        super().__init__(num_inputs, num_classes, settings)
        self.points = nn.Parameter(0.1 * torch.randn(self.num_outputs, num_inputs))

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(K + E, D + 1)."""
        ones = self.points.new_ones(self.num_outputs, 1)
        return torch.cat([-(1 + 2 / self.num_inputs) * self.points, ones], dim=1)

    @property
    def bias(self) -> Tensor:  # type: ignore[override]
        """(K + E,), mean square of each point."""
        return self.points.square().mean(dim=1)

    def embed(self, vectors: Tensor) -> Tensor:
        """(B, D + 1): the vectors and their mean square."""
        return torch.cat([vectors, vectors.square().mean(dim=1, keepdim=True)], dim=1)


HEADS: dict[str, Callable[[int, int, HeadSettings], Head]] = {
    "linear": LinearHead,
    "weight_norm": WeightNormHead,
    "cosine": CosineHead,
    "reciprocal": ReciprocalHead,
}
