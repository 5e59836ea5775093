"""Supervised contrastive loss (Khosla et al. 2020): images of a class are drawn together, others apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from osr.losses.base import Loss
from osr.models.heads import Head

PROJECTION_WIDTH = 128  # as in the paper, section 4, and the authors' code


class SupCon(Loss):
    """Mean over images i of -1 / |P_i| * sum over p in P_i of log softmax_a(u_i u_a / t)_p, + a head's loss.

    u are the features behind two linear layers with a ReLU between, `PROJECTION_WIDTH` numbers, of length
    one; a runs over all images of the batch but i, P_i are those of its class. A batch holds each image
    twice, each time augmented anew (`TrainSettings.views`). The layers are this loss's own and are left
    behind with it.
    The second term is the cross-entropy of the network's head on the features, whose gradient ends there: the
    head follows features that it does not change, so that epochs can be compared. When the features are
    learned, `osr.training.frozen.probe` fits it anew, the second phase of the paper.
    Source: "Supervised Contrastive Learning", NeurIPS 2020, equation 2 (L_out).

    Args:
        head: of the network.
        temperature: t, above 0; 0.1 in the paper.
        label_smoothing: of the second term.
    """

    def __init__(self, head: Head, *, temperature: float, label_smoothing: float) -> None:
        super().__init__()
        self._head = (head,)  # in a tuple: its parameters are the network's
        self.temperature, self.label_smoothing = temperature, label_smoothing
        width = head.affine()[0].shape[1]
        self.projection = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, PROJECTION_WIDTH)
        )

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 (losses share it)
        """Scalar loss of (B, D) features and (B,) int64 labels in 0..K-1; the logits are worked out anew."""
        points = normalize(self.projection(features), dim=1)
        followed = self._head[0](features.detach())
        classified = cross_entropy(followed, labels, label_smoothing=self.label_smoothing)
        return contrast(points, labels, temperature=self.temperature) + classified


def contrast(points: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """L_out of (B, W) points of length one; images without another of their class are passed over.

    Args:
        points: (B, W).
        labels: (B,) int64.
        temperature: above 0.
    """
    itself = torch.eye(len(points), dtype=torch.bool, device=points.device)
    logs = (points @ points.T / temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)
    partners = (labels[:, None] == labels) & ~itself
    counts = partners.sum(dim=1)
    sums = logs.masked_fill(~partners, 0.0).sum(dim=1)
    return -(sums / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)
