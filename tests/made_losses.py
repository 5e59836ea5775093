"""A loss by name with the shipped settings, some of them changed."""

from pathlib import Path

import torch

from osr.losses.base import Loss
from osr.losses.contract import CLASS_COUNTS, head_for
from osr.losses.registry import LOSSES, build_loss
from osr.models.heads import Head
from osr.params import load_params

SHIPPED = load_params(Path(__file__).parents[1] / "params.yaml").losses


def make(name: str, *, label_smoothing: float = 0.0, **changes: float) -> tuple[Loss, Head]:
    """A loss with changed settings and the head it goes with: four classes, two extra ones if it has any."""
    torch.manual_seed(0)
    head = head_for(LOSSES[name], kind="reciprocal" if name == "arpl" else "linear")
    settings = SHIPPED
    if changes:
        section = getattr(SHIPPED, name).model_copy(update=changes)
        settings = SHIPPED.model_copy(update={name: section})
    loss = build_loss(name, settings, label_smoothing=label_smoothing, head=head, class_counts=CLASS_COUNTS)
    return loss.double(), head
