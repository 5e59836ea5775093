"""What happens to one batch: network and loss as one module, which processes can share; batches in steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from osr.data.batches import Batch


class Step(nn.Module):
    """Network and loss together, so that several devices share the gradients of both.

    Args:
        model: images -> (logits, features).
        loss: (logits, features, labels) -> scalar, in full precision whatever the network's.
    """

    def __init__(self, model: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Scalar loss and logits of a batch."""
        logits, features = self.model(images)
        with torch.autocast(images.device.type, enabled=False):
            logits, features = _full(logits), _full(features)
            return self.loss(logits, features, labels), logits


def num_right(logits: Tensor, labels: Tensor, num_extra: int) -> Tensor:
    """How many images have their class, of a mixed image the larger one, ahead of the other known ones.

    Args:
        logits: (B, K + E).
        labels: (B,) int64 or (B, K) shares.
        num_extra: E.
    """
    classes = labels if labels.ndim == 1 else labels.argmax(dim=1)
    return (logits[:, : logits.shape[1] - num_extra].argmax(dim=1) == classes).sum()


def groups_of(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of `size` batches in a row; the last may be shorter."""
    while group := list(islice(batches, size)):
        yield group


def batch_sizes(num_images: int, num_batches: int) -> Iterator[int]:
    """Images in each batch of all processes together."""
    size, larger = divmod(num_images, num_batches)
    yield from (size + (number < larger) for number in range(num_batches))


def _full(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
