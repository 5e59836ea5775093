"""What every loss shares. Labels: 0..K-1 known, -2 background."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from osr.outputs import BACKGROUND


class Loss(nn.Module, ABC):
    """A scalar of one batch. Its own parameters, if any, are trained with the network's and kept with them.

    `needs_background` says whether batches hold background images (label -2); the others never see one.
    `needs_extra_class` says whether the last E >= 1 logits are of extra classes that stand for *not known*.
    `takes_soft_labels` says whether labels may also be (B, K) shares of the classes, which mixed images have.
    """

    needs_background: ClassVar[bool] = False
    needs_extra_class: ClassVar[bool] = False
    takes_soft_labels: ClassVar[bool] = False

    @abstractmethod
    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of (B, K + E) logits, (B, D) features and (B,) int64 labels."""


def known_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """(B,) cross-entropy of known images with smoothed labels; of background ones, a number to pass over."""
    return cross_entropy(logits, labels.clamp(min=0), label_smoothing=label_smoothing, reduction="none")


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """(B,) cross-entropy between softmax(logits) and the uniform distribution; log K at best."""
    return -log_softmax(logits, dim=1).mean(dim=1)


def means(known_values: Tensor, background_values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the known and over the background images of a batch; 0 for a group without images.

    Args:
        known_values: (B,), what counts at known images.
        background_values: (B,), what counts at background images.
        labels: (B,) int64.
    """
    background = labels == BACKGROUND
    groups = ((known_values, ~background), (background_values, background))
    known, other = (
        values.where(mask, values.new_zeros(())).sum() / mask.sum().clamp(min=1) for values, mask in groups
    )
    return known, other
