"""Cross-entropy with label smoothing (Szegedy et al. 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from osr.losses.base import Loss


class CrossEntropy(Loss):
    """Mean over the batch of the cross-entropy between softmax(logits) and the smoothed label.

    Vaze et al. 2022 spread their smoothing e over the K - 1 wrong classes alone: `label_smoothing` of
    e K / (K - 1) gives the same targets.

    Args:
        label_smoothing: share in 0..1 of each target spread evenly over all K classes, also the right one.
    """

    takes_soft_labels = True

    def __init__(self, *, label_smoothing: float) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss(label_smoothing=label_smoothing)

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 (losses share it)
        """Scalar loss of (B, K) logits and (B,) int64 labels in 0..K-1 or (B, K) shares."""
        loss: Tensor = self.loss(logits, labels)
        return loss
