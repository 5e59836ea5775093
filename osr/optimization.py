"""Optimiser and learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from osr.train_settings import TrainSettings


def make_optimizer(
    model: nn.Module, settings: TrainSettings, *, loss: nn.Module | None = None
) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum; norms, biases and parameters of the loss are not decayed."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if loss is not None and (own := list(loss.parameters())):
        groups.append({"params": own, "weight_decay": 0.0})
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0)


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: TrainSettings, *, steps_per_epoch: int
) -> LambdaLR:
    """Linear warm-up, then cosine to zero (Loshchilov and Hutter 2017), per optimiser step."""
    warmup, total = settings.warmup_epochs * steps_per_epoch, settings.epochs * steps_per_epoch
    return LambdaLR(optimizer, lambda step: lr_factor(step, warmup=warmup, total=total))


def lr_factor(step: int, *, warmup: int, total: int) -> float:
    """The factor in 0..1 on the learning rate at a step counted from 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
