"""Optimisers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from osr.schedules import lr_factor
from osr.train_settings import TrainSettings


def make_optimizer(
    model: nn.Module, settings: TrainSettings, *, loss: nn.Module | None = None
) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD over the network and the loss.

    Norms, biases and the parameters of the loss are not decayed. AdamW takes the decay off the weights, Adam
    and SGD add it to the gradient.

    Args:
        model: parameters that need no gradient are left out; those of its `backbone` learn at
            `backbone_lr_factor` times the rate.
        settings: the `train` section of params.yaml.
        loss: its own parameters, if any, become the last group.
    """
    groups = _decayed_and_free([p for p in model.parameters() if p.requires_grad], settings)
    backbone = getattr(model, "backbone", None)
    if settings.backbone_lr_factor != 1 and backbone is not None:
        inside = {id(parameter) for parameter in backbone.parameters()}
        slow = [{**group, "params": [p for p in group["params"] if id(p) in inside]} for group in groups]
        for group in groups:
            group["params"] = [p for p in group["params"] if id(p) not in inside]
        groups += [{**group, "lr": settings.lr * settings.backbone_lr_factor} for group in slow]
    if loss is not None and (own := list(loss.parameters())):
        groups.append({"params": own, "weight_decay": 0.0})
    match settings.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=settings.lr)
        case "adam":
            return torch.optim.Adam(groups, lr=settings.lr)
        case "sgd":
            nesterov = settings.nesterov and settings.momentum > 0
            return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov)


def _decayed_and_free(parameters: list[nn.Parameter], settings: TrainSettings) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: TrainSettings, *, steps_per_epoch: int
) -> LambdaLR:
    """The schedule of `train.schedule`, per optimiser step."""
    return LambdaLR(optimizer, lambda step: lr_factor(step, settings, steps_per_epoch=steps_per_epoch))
