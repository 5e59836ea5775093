"""Outlier exposure (Hendrycks et al. 2019): background images are to give a uniform softmax."""

from __future__ import annotations

from torch import Tensor

from osr.losses.base import Loss, known_cross_entropy, means, uniform_cross_entropy


class OutlierExposure(Loss):
    """Mean of CE(z, y) over known images + w * mean of -(1 / K) sum over k of log p_k over background ones.

    Unlike `entropic`, the share of background images in a batch does not matter; in a batch without any, or
    without known ones, that mean is 0.
    Source: "Deep Anomaly Detection with Outlier Exposure", ICLR 2019, section 4.3.

    Args:
        weight: w, at least 0; 0.5 in the paper for images.
        label_smoothing: of the known images' labels.
    """

    needs_background = True

    def __init__(self, *, weight: float, label_smoothing: float) -> None:
        super().__init__()
        self.weight, self.label_smoothing = weight, label_smoothing

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 (losses share it)
        """Scalar loss of (B, K) logits and (B,) int64 labels in 0..K-1 or -2."""
        classified = known_cross_entropy(logits, labels, self.label_smoothing)
        known, background = means(classified, uniform_cross_entropy(logits), labels)
        return known + self.weight * background
