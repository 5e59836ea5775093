"""Energy-bounded learning (Liu et al. 2020): low energy for known images, high for background ones."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import relu

from osr.losses.base import Loss, known_cross_entropy, means


class EnergyReg(Loss):
    """CE + w * (mean of max(0, E - a)^2 over known + mean of max(0, b - E)^2 over background images).

    E = -logsumexp(logits); means over an empty group are 0.
    Source: "Energy-based Out-of-distribution Detection", NeurIPS 2020, equations 7 to 9.

    Args:
        weight: w, at least 0; 0.1 in the paper.
        known_energy: a, which the energy of known images is to stay below.
        background_energy: b, which the energy of background images is to stay above.
        label_smoothing: of the known images' labels.
    """

    needs_background = True

    def __init__(
        self, *, weight: float, known_energy: float, background_energy: float, label_smoothing: float
    ) -> None:
        super().__init__()
        self.weight, self.label_smoothing = weight, label_smoothing
        self.known_energy, self.background_energy = known_energy, background_energy

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 (losses share it)
        """Scalar loss of (B, K) logits and (B,) int64 labels in 0..K-1 or -2."""
        energy = -logits.logsumexp(dim=1)
        bounded = relu(energy - self.known_energy).square()
        known = known_cross_entropy(logits, labels, self.label_smoothing) + self.weight * bounded
        lifted = self.weight * relu(self.background_energy - energy).square()
        return sum(means(known, lifted, labels), start=logits.new_zeros(()))
