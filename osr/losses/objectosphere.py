"""Objectosphere loss (Dhamija et al. 2018): background images are to have short features, known ones long."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import relu

from osr.losses.base import Loss
from osr.losses.entropic import Entropic
from osr.outputs import BACKGROUND


class Objectosphere(Loss):
    """Entropic loss + w * mean of max(0, x - |f|)^2 (known) or |f|^2 (background) over the batch.

    Source: "Reducing Network Agnostophobia", NeurIPS 2018, equation 2.

    Args:
        weight: w, at least 0.
        min_norm: x, the length that features of known images are to reach.
        label_smoothing: of the known images' labels.
    """

    needs_background = True

    def __init__(self, *, weight: float, min_norm: float, label_smoothing: float) -> None:
        super().__init__()
        self.weight, self.min_norm = weight, min_norm
        self.entropic = Entropic(label_smoothing=label_smoothing)

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of (B, K) logits, (B, D) features and (B,) int64 labels in 0..K-1 or -2."""
        short = relu(self.min_norm - features.norm(dim=1)).square()
        norm = features.square().sum(dim=1).where(labels == BACKGROUND, short)
        entropic: Tensor = self.entropic(logits, features, labels)
        return entropic + self.weight * norm.mean()
