"""The schema of the `train` section: how the network learns."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from osr.losses.settings import LossName
from osr.sections import Count, Section, Seed


class AugmentationSettings(Section):
    """How far training images are moved at random; zeros switch a part off."""

    shift_pixels: Annotated[int, Field(ge=0)]
    rotation_degrees: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    shear: Annotated[float, Field(ge=0, lt=1)]


class TrainSettings(Section):
    """How the network learns."""

    seed: Seed
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
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
    augmentation: AugmentationSettings
    accelerator: Literal["auto", "cpu", "gpu"]
    cpu_threads: Count | Literal["auto"]
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
        return self
