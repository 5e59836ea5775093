"""Center loss (Wen et al. 2016): features of a class are drawn to its centre, which is learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from osr.losses.base import Loss


class Center(Loss):
    """CE(z, y) + w / 2 * mean of |f - c_y|^2 over the batch.

    The paper moves the centres by a rule of their own, free of w. Here the optimiser moves them, with the
    gradient of the mean of |f - c_y|^2 / 2: as there, w is felt by the features alone.
    Source: "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016, equation 5.

    Args:
        num_classes: K.
        num_features: D.
        weight: w, above 0; 0.003 in the paper.
        label_smoothing: of the cross-entropy.
    """

    def __init__(self, *, num_classes: int, num_features: int, weight: float, label_smoothing: float) -> None:
        super().__init__()
        self.weight, self.label_smoothing = weight, label_smoothing
        self.centers = nn.Parameter(torch.zeros(num_classes, num_features))

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of (B, K) logits, (B, D) features and (B,) int64 labels in 0..K-1."""
        fixed = self.centers.detach()
        centers = fixed + (self.centers - fixed) / self.weight  # the same values, their gradient freed of w
        distance = (features - centers[labels]).square().sum(dim=1)
        classified = cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return classified + 0.5 * self.weight * distance.mean()
