"""Optimisers: which parameters are decayed, and how fast each layer learns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from osr.training.layer_order import order_of
from osr.training.schedules import lr_factor
from osr.training.settings import TrainSettings

Groups = list[dict[str, Any]]


def make_optimizer(
    model: nn.Module, settings: TrainSettings, *, loss: nn.Module | None = None
) -> torch.optim.Optimizer:
    """The optimiser of `train.optimizer` over the network and the loss.

    Norms, biases, what a timm network names in `no_weight_decay` (class token, positions) and the parameters
    of the loss are not decayed. AdamW, NAdamW, Lion and LAMB take the decay off the weights, Adam and SGD add
    it to the gradient.

    Args:
        model: parameters that need no gradient are left out; those of its `backbone` learn at
            `backbone_lr_factor` times the rate, its layers from last to first at `layer_decay` of the next.
        settings: the `train` section of params.yaml.
        loss: its own parameters, if any, become the last group.

    Raises:
        InputError: `layer_decay` with a backbone whose layers have no order.
    """
    backbone = getattr(model, "backbone", None)
    words = tuple(getattr(backbone, "no_weight_decay", tuple)())
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = _decayed_and_free(named, settings, words)
    if backbone is not None and (settings.backbone_lr_factor != 1 or settings.layer_decay != 1):
        inside = {id(parameter) for parameter in backbone.parameters()}
        groups = _decayed_and_free([(n, p) for n, p in named if id(p) not in inside], settings, words)
        groups += _backbone_groups(backbone, [(n, p) for n, p in named if id(p) in inside], settings, words)
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
        case "nadamw" | "lion" | "lamb":
            from timm.optim import create_optimizer_v2

            optimizer: torch.optim.Optimizer = create_optimizer_v2(
                groups, opt=settings.optimizer, lr=settings.lr, weight_decay=0.0
            )
            return optimizer


def _decayed_and_free(
    named: Iterable[tuple[str, nn.Parameter]], settings: TrainSettings, words: tuple[str, ...]
) -> Groups:
    """Two groups: matrices and convolutions, and what is not decayed."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in named:
        is_free = parameter.ndim <= 1 or any(word in name for word in words)
        (free if is_free else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def _backbone_groups(
    backbone: nn.Module,
    named: list[tuple[str, nn.Parameter]],
    settings: TrainSettings,
    words: tuple[str, ...],
) -> Groups:
    """The two groups for each rate at which layers of the backbone learn."""
    depth = _depths(backbone) if settings.layer_decay != 1 else {}
    last = max(depth.values(), default=0)
    groups: Groups = []
    for level in range(last + 1):
        layer = [(name, p) for name, p in named if depth.get(name.removeprefix("backbone."), last) == level]
        lr = settings.lr * settings.backbone_lr_factor * settings.layer_decay ** (last - level)
        groups += [{**group, "lr": lr} for group in _decayed_and_free(layer, settings, words)]
    return groups


def _depths(backbone: Any) -> dict[str, int]:
    """The layer of each parameter, 0 nearest the image."""
    return order_of(
        backbone,
        coarse=False,
        refusal="train.layer_decay needs to know the order of the layers, but "
        f"{type(backbone).__name__} has no group_matcher, which timm's networks have; "
        "set train.layer_decay to 1.",
    )


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: TrainSettings, *, steps_per_epoch: int
) -> LambdaLR:
    """The schedule of `train.schedule`, per optimiser step."""
    return LambdaLR(optimizer, lambda step: lr_factor(step, settings, steps_per_epoch=steps_per_epoch))
