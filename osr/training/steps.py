"""What happens to one batch: network and loss as one module, which processes can share; batches in steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import torch
from torch import Tensor, nn

from osr.data.batches import Batch
from osr.data.settings import BatchSettings
from osr.models.rotations import rotation_losses, turned


@dataclass(frozen=True)
class Beside:
    """What a network learns from beside the images of a batch; it is judged without.

    Args:
        copies: 2 where a batch ends in as many images again that were made of its own, else 1.
        mixed_weight: eta of RegMixup (Pinto et al. 2022): these are mixed ones, and the loss is that of the
            images + eta * that of the mixed ones; 0: one loss of all images.
        rotation_weight: lambda of Hendrycks et al. 2019, "Using Self-Supervised Learning Can Improve Model
            Robustness and Uncertainty": the loss + lambda * the mean cross-entropy of the four quarter turns
            of each own image; 0: the network has no head for them.
    """

    copies: int = 1
    mixed_weight: float = 0.0
    rotation_weight: float = 0.0

    @classmethod
    def of(cls, settings: BatchSettings, rotation_weight: float) -> Self:
        """As the section `train` says, with the weight of the second head."""
        return cls(settings.copies, settings.augmentation.mix_beside, rotation_weight)


NOTHING = Beside()


class Step(nn.Module):
    """Network and loss together, so that several devices share the gradients of both.

    Args:
        model: images -> (logits, features); an `OpenSetModel` where `beside` has a rotation weight.
        loss: (logits, features, labels) -> scalar, in full precision whatever the network's.
        beside: counts while the step is in training mode.
    """

    def __init__(self, model: nn.Module, loss: nn.Module, beside: Beside = NOTHING) -> None:
        super().__init__()
        self.model, self.loss, self.beside = model, loss, beside

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Scalar loss of a batch, and the logits of its own images."""
        beside = self.beside if self.training else NOTHING
        num_own, turns = len(labels) // beside.copies, None
        if beside.rotation_weight:
            model: Any = self.model
            pixels = model.preprocess(images)
            # One pass of all, as it is judged: the statistics of batch norms are those of every turn.
            vectors = model.embed(torch.cat([pixels, turned(pixels[:num_own])]))
            upright, others = vectors[: len(labels)], vectors[len(labels) :]
            turns = model.turns(torch.cat([upright[:num_own], others]))
            logits, features = model.judge(upright)
        else:
            logits, features = self.model(images)
        with torch.autocast(images.device.type, enabled=False):
            logits, features = _full(logits), _full(features)
            if beside.mixed_weight:
                own, mixed = slice(num_own), slice(num_own, None)
                value = self.loss(logits[own], features[own], labels[own])
                value = value + beside.mixed_weight * self.loss(logits[mixed], features[mixed], labels[mixed])
            else:
                value = self.loss(logits, features, labels)
            if turns is not None:
                value = value + beside.rotation_weight * rotation_losses(_full(turns)).mean()
        return value, logits[:num_own]


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


def totals(step: Step, batches: Iterator[Batch], num_extra: int) -> tuple[float, float]:
    """Sum of the losses, and number of right images."""
    step.eval()
    total_loss, correct = 0.0, 0
    with torch.no_grad():
        for images, labels in batches:
            value, logits = step(images, labels)
            total_loss += float(value) * len(labels)
            correct += int(num_right(logits, labels, num_extra))
    return total_loss, correct
