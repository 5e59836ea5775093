"""Quarter turns of images, and how well a network tells them apart (RotPred, Hendrycks et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

NUM_TURNS = 4


def turned(pixels: Tensor) -> Tensor:
    """(3 B, C, S, S): square (B, C, S, S) pixels turned by 90 degrees, then all by 180, then all by 270."""
    return torch.cat([pixels.rot90(turns, (2, 3)) for turns in range(1, NUM_TURNS)])


def rotation_losses(turns: Tensor) -> Tensor:
    """(N,) mean cross-entropy over the four quarter turns of each image.

    Args:
        turns: (4 N, 4) logits of the turns, first those of all images as they are, then those of `turned`.
    """
    num_images = len(turns) // NUM_TURNS
    right = torch.arange(NUM_TURNS, device=turns.device).repeat_interleave(num_images)
    return cross_entropy(turns, right, reduction="none").view(NUM_TURNS, num_images).mean(dim=0)
