"""What every loss promises, as checks on made-up batches: our tests run them on ours, `osr check` on yours.

A check takes a function that makes the loss and its head, and raises `Broken` with a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from osr.losses.base import Loss
from osr.models.heads import HEADS, Head
from osr.models.settings import HeadSettings
from osr.outputs import BACKGROUND
from osr.settings.own_code import keep

NUM_CLASSES, NUM_FEATURES, NUM_EXTRA = 4, 5, 2
CLASS_COUNTS = (4, 3, 2, 1)  # training images of each class
Kind = Literal["linear", "weight_norm", "cosine", "reciprocal"]
Make = Callable[[], tuple[Loss, Head]]


def head_for(cls: type[Loss], *, kind: Kind = "linear") -> Head:
    """A float64 head of four classes, and two extra ones if the loss wants any."""
    extra = NUM_EXTRA * cls.needs_extra_class
    chosen = HeadSettings(name=kind, bias=False, scale=1.0, temperature=1.0, extra_classes=extra)
    return HEADS[kind](NUM_FEATURES, NUM_CLASSES, chosen).double()


def batch(loss: Loss, head: Head) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors, logits, features and labels; a third of them background where the loss wants it."""
    generator = torch.Generator().manual_seed(0)
    labels = _labels(loss, 3).repeat(4)
    vectors = torch.randn(len(labels), NUM_FEATURES, generator=generator, dtype=torch.float64)
    features = head.embed(vectors.requires_grad_())
    return vectors, head(features), features, labels


def gradient_everywhere(make: Make) -> None:
    """A finite scalar whose gradient reaches every known image, and every parameter of loss and head."""
    loss, head = make()
    vectors, logits, features, labels = batch(loss, head)
    before = [tensor.detach().clone() for tensor in (logits, features, labels)]
    result = loss(logits, features, labels)
    keep(result.shape == (), f"the loss has shape {tuple(result.shape)}, but must be a scalar")
    keep(bool(result.isfinite()), f"the loss is {result.item()}")
    result.backward()
    share = 0.0 if vectors.grad is None else float((vectors.grad != 0).any(dim=1)[labels >= 0].float().mean())
    # A ReLU in a loss may pass over one in ten.
    keep(share > 0.9, f"the gradient does not reach every known image, but {share:.0%} of them")
    named = (*head.named_parameters(prefix="head"), *loss.named_parameters(prefix="loss"))
    for name, parameter in named:
        rows = parameter[None] if parameter.ndim == 0 else parameter
        reached = parameter.grad is not None and parameter.grad.reshape(len(rows), -1).any(dim=1).all()
        keep(bool(reached), f"the gradient does not reach all of {name}")
    same = all(torch.equal(a, b) for a, b in zip(before, (logits, features, labels), strict=True))
    keep(same, "the loss changes what it is given")


def right_is_cheaper(make: Make) -> None:
    """A sure right answer costs less than a sure wrong one."""
    loss, head = make()
    labels = torch.arange(NUM_CLASSES)
    right = 5 * torch.eye(NUM_CLASSES, head.num_outputs, dtype=torch.float64)
    features = torch.zeros(NUM_CLASSES, head.weight.shape[1], dtype=torch.float64)
    costs = [loss(logits, features, labels).item() for logits in (right, right.roll(1, 0))]
    keep(costs[0] < costs[1], f"right answers cost {costs[0]:g}, wrong ones {costs[1]:g}")


def half_precision(make: Make) -> None:
    """bfloat16, vectors of zeros and very long ones give a finite loss and finite gradients."""
    loss, head = make()
    loss, head = loss.bfloat16(), head.bfloat16()
    vectors = 30 * torch.randn(6, NUM_FEATURES, generator=torch.Generator().manual_seed(1)).bfloat16()
    vectors[0] = 0
    features = head.embed(vectors.requires_grad_())
    result = loss(head(features), features, _labels(loss, 2))
    result.backward()
    keep(bool(result.isfinite()), f"the loss is {result.item()} in bfloat16")
    is_finite = vectors.grad is not None and vectors.grad.isfinite().all()
    keep(bool(is_finite), "gradients in bfloat16 are not finite")


def batch_of_one_kind(make: Make) -> None:
    """A batch without background images, or of nothing else, is finite where the loss learns from both."""
    for label in (0, BACKGROUND):
        loss, head = make()
        vectors, logits, features, _ = batch(loss, head)
        if label == BACKGROUND and not loss.needs_background:
            return
        result = loss(logits, features, torch.full((len(logits),), label))
        result.backward()
        grad = vectors.grad
        told = "background" if label == BACKGROUND else "known"
        fine = bool(result.isfinite()) and grad is not None and bool(grad.isfinite().all())
        keep(fine, f"a batch of {told} images alone has no finite loss and gradient")


def background_unsure(make: Make) -> None:
    """A background image with a sure answer costs more than one with equal logits."""
    loss, head = make()
    if not loss.needs_background:
        return
    flat = torch.zeros(2, head.num_outputs, dtype=torch.float64)
    features, sure = torch.zeros(2, head.weight.shape[1], dtype=torch.float64), flat.clone()
    sure[1, 0] = 20.0
    labels = torch.tensor([0, BACKGROUND])
    costs = [loss(logits, features, labels).item() for logits in (flat, sure)]
    keep(
        costs[0] < costs[1],
        "a background image with a sure answer costs no more than another",
    )


def soft_labels(make: Make) -> None:
    """Where shares of the classes are taken as labels, those of a single class cost what its label costs."""
    loss, head = make()
    if not loss.takes_soft_labels:
        return
    _, logits, features, labels = batch(loss, head)
    shares = torch.eye(NUM_CLASSES, dtype=torch.float64)[labels]
    hard, soft = (loss(logits, features, given).item() for given in (labels, shares))
    keep(abs(hard - soft) < 1e-9 * max(1, abs(hard)), f"labels cost {hard:g}, the same as shares {soft:g}")


def _labels(loss: Loss, num_background: int) -> Tensor:
    """Six labels, the last of them of the background where the loss wants it."""
    known = [0, 1, 2, 3, 0, 1]
    if not loss.needs_background:
        return torch.tensor(known)
    more = known if num_background == 3 else known[:4]
    return torch.tensor(more + [BACKGROUND] * num_background)


PROMISES: tuple[Callable[[Make], None], ...] = (
    gradient_everywhere,
    right_is_cheaper,
    half_precision,
    batch_of_one_kind,
    background_unsure,
    soft_labels,
)
