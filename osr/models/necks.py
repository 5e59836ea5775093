"""What stands between backbone and head."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import normalize

from osr.models.settings import NeckSettings


class T2FNorm(nn.Module):
    """f / (tau |f|) while the network learns, f / tau when it judges (Regmi et al. 2024, T2FNorm).

    In training the length of the features says nothing, and the network cannot lower its loss by making them
    longer; when it judges, lengths are as the backbone gives them, and those of unknown images are shorter.
    A vector of zeros stays one.
    Source: "T2FNorm: Train-time Feature Normalization for OOD Detection in Image Classification", CVPR
    Workshops 2024; tau divides in both, as in the authors' code (github.com/Jingkang50/OpenOOD, t2fnorm_net).

    Args:
        tau: above 0; 0.1 in the authors' code.
    """

    def __init__(self, tau: float) -> None:
        super().__init__()
        self.tau = tau

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, D) of (B, D)."""
        return (normalize(vectors, dim=1) if self.training else vectors) / self.tau


def build_neck(settings: NeckSettings, width: int) -> tuple[nn.Module, int]:
    """The neck behind a backbone of `width` features, and its own width."""
    match settings.name:
        case "identity":
            return nn.Identity(), width
        case "linear":
            layer = nn.Linear(width, settings.width, bias=False)
            return nn.Sequential(layer, nn.BatchNorm1d(settings.width), nn.ReLU()), settings.width
        case "tanh":
            return nn.Tanh(), width
        case "t2fnorm":
            return T2FNorm(settings.tau), width
