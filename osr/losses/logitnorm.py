"""Logit normalisation (Wei et al. 2022): training cannot lower the loss by longer logits alone."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from osr.losses.base import Loss

EPSILON = 1e-7  # of the authors' code, for logits of length 0


class LogitNorm(Loss):
    """Mean of CE(z / (t (|z| + 1e-7)), y) over the batch, z the logits.

    Source: "Mitigating Neural Network Overconfidence with Logit Normalization", ICML 2022, equation 5.

    Args:
        temperature: t, above 0; 0.04 in the paper for CIFAR-10.
        label_smoothing: of the cross-entropy.
    """

    takes_soft_labels = True

    def __init__(self, *, temperature: float, label_smoothing: float) -> None:
        super().__init__()
        self.temperature, self.label_smoothing = temperature, label_smoothing

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 (losses share it)
        """Scalar loss of (B, K) logits and (B,) int64 labels in 0..K-1 or (B, K) shares."""
        length = logits.norm(dim=1, keepdim=True) + EPSILON
        return cross_entropy(
            logits / (self.temperature * length), labels, label_smoothing=self.label_smoothing
        )
