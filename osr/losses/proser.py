"""Placeholders for unknowns (Zhou et al. 2021): an extra class learned from mixtures of known classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from osr.losses.extra_class import ExtraClassLoss
from osr.models.heads import Head


class Proser(ExtraClassLoss):
    """CE(z, y) + b * CE(z without y, K) + g * CE(z of mixtures, K), means over the batch; z of K + 1 classes.

    The extra class, K, comes second for known images and first for pseudo-unknowns: a * f_i + (1 - a) * f_j
    of two images of different classes, a drawn for each pair from Beta(alpha, alpha). f are the features,
    the input of the head, so that every backbone can be used and no image passes it twice; the paper mixes
    in a middle layer and starts from a trained classifier (`model.backbone.weights` may name one). In a
    batch of one class and in evaluation the last term is 0.
    Source: "Learning Placeholders for Open-Set Recognition", CVPR 2021, equations 4 to 7, and
    github.com/zhoudw-zdw/CVPR21-Proser.

    Args:
        head: gives mixed features their logits.
        second_weight: b, at least 0; 1 in the authors' code.
        mixed_weight: g, at least 0; 0.01 in the authors' code.
        alpha: above 0; 1 in the authors' code.
        num_extra, label_smoothing: as in `ExtraClassLoss`; smoothing is of the first term.
    """

    needs_background = False

    def __init__(
        self,
        head: Head,
        *,
        second_weight: float,
        mixed_weight: float,
        alpha: float,
        num_extra: int,
        label_smoothing: float,
    ) -> None:
        super().__init__(num_extra=num_extra, label_smoothing=label_smoothing)
        self._head = (head,)  # in a tuple: its parameters are the network's
        self.second_weight, self.mixed_weight, self.alpha = second_weight, mixed_weight, alpha

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of (B, K + E) logits, (B, D) features and (B,) int64 labels in 0..K-1."""
        joined = self.join(logits)
        lowest = torch.finfo(joined.dtype).min
        others = joined.scatter(1, labels[:, None], lowest)
        second = cross_entropy(others, torch.full_like(labels, joined.shape[1] - 1))
        loss = self.classify(joined, labels).mean() + self.second_weight * second
        return loss + self.mixed_weight * self._mixed(features, labels) if self.training else loss

    def _mixed(self, features: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of pseudo-unknowns against the extra class."""
        partner = torch.randperm(len(labels)).to(labels.device)
        draws = torch.distributions.Beta(self.alpha, self.alpha).sample((len(labels), 1))
        share = draws.to(features)
        mixtures = share * features + (1 - share) * features[partner]
        joined = self.join(self._head[0](mixtures))
        losses = cross_entropy(joined, torch.full_like(labels, joined.shape[1] - 1), reduction="none")
        differ = labels != labels[partner]
        return losses.where(differ, torch.zeros_like(losses)).sum() / differ.sum().clamp(min=1)
