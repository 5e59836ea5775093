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
    optimizer: Literal["adamw", "sgd"]
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_epochs: Annotated[int, Field(ge=0)]
    augmentation: AugmentationSettings
    accelerator: Literal["auto", "cpu", "gpu"]
    cpu_threads: Count | Literal["auto"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"train.warmup_epochs is {self.warmup_epochs}, but must be below train.epochs, {self.epochs}"
            )
        return self
