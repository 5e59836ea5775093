"""Losses over K known classes and one extra class, *not known*; with E > 1 extra logits the largest counts.

Labels: 0..K-1 known, -2 background, which is the extra class, K.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, relu

from osr.losses.base import Loss


class ExtraClassLoss(Loss):
    """What they share: known images keep their class, background images belong to the extra one.

    Args:
        num_extra: E, at least 1: `model.head.extra_classes`.
        label_smoothing: of the known images' labels, spread over all K + 1 classes.
    """

    needs_background = True
    needs_extra_class = True

    def __init__(self, *, num_extra: int, label_smoothing: float) -> None:
        super().__init__()
        self.num_extra, self.label_smoothing = num_extra, label_smoothing

    def join(self, logits: Tensor) -> Tensor:
        """(B, K + 1): the K known logits of (B, K + E), then the largest of the extra ones."""
        known = logits.shape[1] - self.num_extra
        return torch.cat([logits[:, :known], logits[:, known:].amax(dim=1, keepdim=True)], dim=1)

    def classify(self, joined: Tensor, labels: Tensor) -> Tensor:
        """(B,) cross-entropy of the K + 1 classes, of background images without smoothing."""
        extra = joined.shape[1] - 1
        known = cross_entropy(
            joined, labels.clamp(min=0), label_smoothing=self.label_smoothing, reduction="none"
        )
        background = cross_entropy(joined, torch.full_like(labels, extra), reduction="none")
        return known.where(labels >= 0, background)

    def penalised(self, joined: Tensor, labels: Tensor, rho: float) -> Tensor:
        """(B,) cross-entropy, times rho for background images that a known class wins."""
        missed = (labels < 0) & (joined.argmax(dim=1) < joined.shape[1] - 1)
        return self.classify(joined, labels) * torch.where(missed, rho, 1.0).to(joined.dtype)

    def margined(self, joined: Tensor, labels: Tensor, tau: float) -> Tensor:
        """(B,) cross-entropy + max(0, tau - largest known probability) for known images."""
        top = joined.softmax(dim=1)[:, :-1].amax(dim=1)
        return self.classify(joined, labels) + relu(tau - top).where(labels >= 0, torch.zeros_like(top))


class KPlus1(ExtraClassLoss):
    """Mean over the batch of the cross-entropy of K + 1 classes, background images being the last.

    `proser` is for data without background images. Source: the usual form, as in Neal et al., "Open Set
    Learning with Counterfactual Images", ECCV 2018, and Vaze et al. 2022.
    """

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 (losses share it)
        """Scalar loss of (B, K + E) logits and (B,) int64 labels in 0..K-1 or -2."""
        return self.classify(self.join(logits), labels).mean()


class Penalty(ExtraClassLoss):
    """`kplus1`, an image of the extra class that a known class wins counting rho times.

    Source: the seed of this project (alobo01/mai-dl2, "penalty"), whose code never applied it.

    Args:
        rho: at least 1; 2 in the seed.
        num_extra, label_smoothing: as in `ExtraClassLoss`.
    """

    def __init__(self, *, rho: float, num_extra: int, label_smoothing: float) -> None:
        super().__init__(num_extra=num_extra, label_smoothing=label_smoothing)
        self.rho = rho

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 (losses share it)
        """Scalar loss of (B, K + E) logits and (B,) int64 labels in 0..K-1 or -2."""
        return self.penalised(self.join(logits), labels, self.rho).mean()


class Threshold(ExtraClassLoss):
    """`kplus1` + mean of max(0, tau - p) over the batch, p a known image's largest known probability.

    Source: the seed ("threshold"), which multiplied the cross-entropy of images with p < tau instead.

    Args:
        tau: in 0..1; 0.5 in the seed.
        num_extra, label_smoothing: as in `ExtraClassLoss`.
    """

    def __init__(self, *, tau: float, num_extra: int, label_smoothing: float) -> None:
        super().__init__(num_extra=num_extra, label_smoothing=label_smoothing)
        self.tau = tau

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 (losses share it)
        """Scalar loss of (B, K + E) logits and (B,) int64 labels in 0..K-1 or -2."""
        return self.margined(self.join(logits), labels, self.tau).mean()


class Combined(ExtraClassLoss):
    """alpha_p * `penalty` + alpha_t * `threshold`.

    Source: the seed ("combined").

    Args:
        alpha_p: at least 0; 0.5 in the seed.
        alpha_t: at least 0; 0.5 in the seed.
        rho: as in `Penalty`.
        tau: as in `Threshold`.
        num_extra, label_smoothing: as in `ExtraClassLoss`.
    """

    def __init__(
        self,
        *,
        alpha_p: float,
        alpha_t: float,
        rho: float,
        tau: float,
        num_extra: int,
        label_smoothing: float,
    ) -> None:
        super().__init__(num_extra=num_extra, label_smoothing=label_smoothing)
        self.alpha_p, self.alpha_t, self.rho, self.tau = alpha_p, alpha_t, rho, tau

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 (losses share it)
        """Scalar loss of (B, K + E) logits and (B,) int64 labels in 0..K-1 or -2."""
        joined = self.join(logits)
        penalised = self.penalised(joined, labels, self.rho)
        return (self.alpha_p * penalised + self.alpha_t * self.margined(joined, labels, self.tau)).mean()
