"""Which parts of a network learn: the last stages of a backbone, or nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from osr.errors import InputError
from osr.models.open_set_model import OpenSetModel
from osr.training.layer_order import order_of


def freeze_backbone(model: OpenSetModel, num_stages: int | Literal["auto", "all"]) -> None:
    """Let the first stages of the backbone learn nothing; their dropout and norms stay as they are judged.

    Args:
        model: neck and head learn in any case.
        num_stages: how many, in timm's coarse order, the stem first; auto: all but the last; all: the whole
            backbone, of any kind.

    Raises:
        InputError: the stages of the backbone have no order, or there are no more than `num_stages`.
    """
    if num_stages == "all":
        model.freeze([model.backbone])
        return
    stages = _stages(model.backbone, model.settings.backbone.name)
    last = max(stages.values())
    if num_stages == "auto":
        num_stages = last
    if num_stages > last:
        raise InputError(
            f"model.backbone.frozen_stages is {num_stages}, but must be at most {last}, auto or all: "
            f"{model.settings.backbone.name} has {last + 1} stages, and the last is to learn."
        )
    still = {name for name, stage in stages.items() if stage < num_stages}
    model.freeze(_largest_within(model.backbone, still))
    for name, parameter in model.backbone.named_parameters():
        parameter.requires_grad_(name not in still)  # also those that no frozen module holds


def _stages(backbone: Any, name: str) -> dict[str, int]:
    """The stage of each parameter, 0 the stem."""
    return order_of(
        backbone,
        coarse=True,
        refusal=f"train.regime is 'tune_last', but the stages of model.backbone.name {name!r} have no order, "
        "which timm's networks have; set model.backbone.frozen_stages to all, or train.regime to tune.",
    )


def _largest_within(network: nn.Module, names: set[str], prefix: str = "") -> Iterator[nn.Module]:
    """The largest modules that have parameters and all of them among `names`."""
    for name, child in network.named_children():
        own = {f"{prefix}{name}.{key}" for key, _ in child.named_parameters()}
        if own and own <= names:
            yield child
        else:
            yield from _largest_within(child, names, f"{prefix}{name}.")
