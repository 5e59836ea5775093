"""The forward pass of a network that learns nothing, as its `Computing` says: of stages and predictors."""

from __future__ import annotations

import torch
from torch import Tensor

from osr.models.open_set_model import OpenSetModel


def ready(model: OpenSetModel, device: torch.device | str) -> OpenSetModel:
    """The model on `device`, in eval mode, its convolutions in their memory layout."""
    model.to(memory_format=torch.channels_last if model.computing.channels_last else torch.contiguous_format)
    return model.to(device).eval()


def forward(model: OpenSetModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and features like `model(images)`, both float32, of (B, C, H, W) uint8 images."""
    pixels = model.preprocess(images)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=model.computing.in_bfloat16):
        vectors = model.embed(pixels)
    logits, features = model.judge(vectors.float())
    return logits, features
