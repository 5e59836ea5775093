"""Logit-adjusted cross-entropy (Menon et al. 2021): rare classes count as much as frequent ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from osr.losses.base import Loss


class LogitAdjusted(Loss):
    """Mean of CE(z + t log p, y) over the batch, z the logits and p the shares of the classes in training.

    The network judges by z alone, which with t = 1 is consistent for the balanced error.
    Source: "Long-tail learning via logit adjustment", ICLR 2021, equation 10.

    Args:
        class_counts: K numbers of training images, each at least 1.
        tau: t, at least 0; 0 is the plain cross-entropy.
        label_smoothing: of the cross-entropy.
    """

    takes_soft_labels = True
    offsets: Tensor

    def __init__(self, *, class_counts: Sequence[int], tau: float, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        counts = torch.tensor(class_counts, dtype=torch.float64)
        offsets = (tau * (counts / counts.sum()).log()).float()
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 (losses share it)
        """Scalar loss of (B, K) logits and (B,) int64 labels in 0..K-1 or (B, K) shares."""
        return cross_entropy(logits + self.offsets, labels, label_smoothing=self.label_smoothing)
