"""Adversarial reciprocal points (Chen et al. 2021), without the generated confusing samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from osr.errors import InputError
from osr.losses.base import Loss
from osr.models.heads import Head, ReciprocalHead


class Arpl(Loss):
    """CE(z, y) + w * mean of max(0, |f - P_y|^2 / D - R + m) over the batch.

    The logits z_k = |f - P_k|^2 / D - <f, P_k> and the points P come from the head `reciprocal`; the radius
    R, one for all classes and 0 at first, is this loss's own parameter. m is 0 in the paper (equation 13) and
    1 in the authors' code (a margin ranking loss).
    Source: "Adversarial Reciprocal Points Learning for Open Set Recognition", TPAMI 2021, and
    github.com/iCGY96/ARPL, loss/ARPLoss.py.

    Args:
        head: owns the points.
        weight: w, at least 0; 0.1 in the authors' code.
        margin: m, at least 0.
        label_smoothing: of the cross-entropy.

    Raises:
        InputError: a head without reciprocal points.
    """

    def __init__(self, head: Head, *, weight: float, margin: float, label_smoothing: float) -> None:
        super().__init__()
        if not isinstance(head, ReciprocalHead):
            raise InputError("train.loss 'arpl' needs reciprocal points: set model.head.name to reciprocal.")
        self._head = (head,)  # in a tuple: the points are the network's parameters and state, not the loss's
        self.weight, self.margin, self.label_smoothing = weight, margin, label_smoothing
        self.radius = nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of (B, K) logits, (B, D + 1) features of the head and (B,) int64 labels in 0..K-1."""
        points = self._head[0].points[labels]
        distance = (features[:, :-1] - points).square().mean(dim=1)
        outside = relu(distance - self.radius + self.margin).mean()
        classified = cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return classified + self.weight * outside
