"""The schema of the `train` section: how the network learns."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from osr.data.settings import BatchSettings
from osr.losses.settings import SOFT_LABEL_LOSSES, LossName
from osr.settings.base import Count


class TrainSettings(BatchSettings):
    """How the network learns."""

    epochs: Count
    loss: LossName
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    optimizer: Literal["adamw", "adam", "sgd", "nadamw", "lion", "lamb"]
    lr: Annotated[float, Field(gt=0)]
    backbone_lr_factor: Annotated[float, Field(gt=0)]
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["cosine", "step", "one_cycle", "constant"]
    warmup_epochs: Annotated[int, Field(ge=0)]
    cosine_restarts: Annotated[int, Field(ge=0)]
    step_epochs: tuple[Count, ...]
    step_factor: Annotated[float, Field(gt=0, lt=1)]
    accumulate_batches: Count
    grad_clip_norm: Annotated[float, Field(ge=0)]
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    patience: Annotated[int, Field(ge=0)]
    max_time_s: Annotated[float, Field(ge=0)]
    accelerator: Literal["auto", "cpu", "gpu"]
    cpu_threads: Count | Literal["auto"]
    num_workers: Annotated[int, Field(ge=0)]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    channels_last: bool
    compile: bool
    devices: Count | Literal["auto"]
    num_nodes: Count
    strategy: Literal["auto", "ddp"]

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"train.warmup_epochs is {self.warmup_epochs}, but must be below train.epochs, {self.epochs}"
            )
        if self.schedule == "one_cycle" and not self.warmup_epochs:
            raise ValueError(
                "train.warmup_epochs is 0, but must be at least 1 when train.schedule is 'one_cycle', "
                "which rises over these epochs"
            )
        mixing = max(self.augmentation.mixup_alpha, self.augmentation.cutmix_alpha)
        if mixing and self.loss not in SOFT_LABEL_LOSSES:
            raise ValueError(
                f"train.loss is {self.loss!r}, but must be one of {', '.join(SOFT_LABEL_LOSSES)} when "
                "train.augmentation.mixup_alpha or cutmix_alpha is above 0: they mix labels, too"
            )
        return self
