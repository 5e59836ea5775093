"""One-vs-rest cross-entropy (DOC, Shu et al. 2017): a class is judged on its own, not against the others."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from osr.losses.base import Loss


class OneVsRest(Loss):
    """Sum over the classes k of the cross-entropy between sigmoid(z_k) and the target; mean over the batch.

    A softmax does not change when the same number is added to all logits; here each logit says by itself how
    much an image is of its class, so all of an unknown image's can be low. `maxlogit` ranks as the largest
    of DOC's probabilities does.
    Source: "DOC: Deep Open Classification of Text Documents", EMNLP 2017, equation 2.

    Args:
        label_smoothing: share in 0..1 of each target spread evenly over all K classes, also the right one.
    """

    takes_soft_labels = True

    def __init__(self, *, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 (losses share it)
        """Scalar loss of (B, K) logits and (B,) int64 labels in 0..K-1 or (B, K) shares."""
        num_classes = logits.shape[1]
        shares = (one_hot(labels, num_classes) if labels.ndim == 1 else labels).to(logits.dtype)
        targets = (1 - self.label_smoothing) * shares + self.label_smoothing / num_classes
        return binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1).mean()
