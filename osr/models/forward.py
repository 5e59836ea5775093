"""The forward pass of a network that learns nothing, on the fast path of the machine."""

from __future__ import annotations

import torch
from torch import Tensor

from osr.models.open_set_model import OpenSetModel


def ready(model: OpenSetModel, device: torch.device, *, channels_last: bool) -> OpenSetModel:
    """The model on `device`, in eval mode, its convolutions in the memory layout that is asked for."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model.to(memory_format=layout)
    return model.to(device).eval()


def forward(model: OpenSetModel, images: Tensor, *, in_bfloat16: bool) -> tuple[Tensor, Tensor]:
    """Logits and features like `model(images)`, both float32.

    Args:
        model: on the device of the images.
        images: (B, C, H, W) uint8.
        in_bfloat16: backbone and neck compute matrices and convolutions in bfloat16; the head never does, so
            the logits are linear in the features all the same.
    """
    pixels = model.preprocess(images)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=in_bfloat16):
        vectors = model.embed(pixels)
    logits, features = model.judge(vectors.float())
    return logits, features
