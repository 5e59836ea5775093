"""Entropic open-set loss (Dhamija et al. 2018): background images are to give a uniform softmax."""

from __future__ import annotations

from torch import Tensor

from osr.losses.base import Loss, known_cross_entropy, uniform_cross_entropy
from osr.outputs import BACKGROUND


class Entropic(Loss):
    """Mean over the batch: -log p_y for a known image, -(1 / K) sum over k of log p_k for a background one.

    Source: "Reducing Network Agnostophobia", NeurIPS 2018, equation 1.

    Args:
        label_smoothing: of the known images' labels.
    """

    needs_background = True

    def __init__(self, *, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 (losses share it)
        """Scalar loss of (B, K) logits and (B,) int64 labels in 0..K-1 or -2."""
        known = known_cross_entropy(logits, labels, self.label_smoothing)
        return uniform_cross_entropy(logits).where(labels == BACKGROUND, known).mean()
