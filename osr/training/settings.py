"""The schema of the `train` section: how the network learns."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from osr.data.settings import BatchSettings
from osr.losses.settings import BACKGROUND_LOSSES, SOFT_LABEL_LOSSES, LossName
from osr.settings.base import Count, CountOrZero, Positive, Section, Share, Weight
from osr.settings.own_code import OwnClass, is_custom


class ProbeSettings(Section):
    """Which heads a probe fits; see `osr.training.probe`."""

    penalties: tuple[Annotated[float, Field(ge=1e-12, le=1e6)], ...]

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.penalties:
            raise ValueError("train.probe.penalties is [], but must hold at least 1 number above 0")
        return self


class TrainSettings(BatchSettings):
    """How the network learns."""

    regime: Literal["tune", "tune_last", "probe", "none"]
    probe: ProbeSettings
    epochs: Count
    loss: LossName | OwnClass
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    optimizer: Literal["adamw", "adam", "sgd", "nadamw", "lion", "lamb"]
    lr: Annotated[float, Field(ge=1e-12, le=1e3)]
    backbone_lr_factor: Positive
    layer_decay: Annotated[float, Field(ge=1e-6, le=1)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: Weight
    schedule: Literal["cosine", "step", "one_cycle", "constant"]
    warmup_epochs: CountOrZero
    cosine_restarts: CountOrZero
    step_epochs: tuple[Count, ...]
    step_factor: Share
    accumulate_batches: Count
    grad_clip_norm: Weight
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    patience: CountOrZero
    max_time_s: Annotated[float, Field(ge=0, le=1e9)]
    accelerator: Literal["auto", "cpu", "gpu"]
    cpu_threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"]
    num_workers: Annotated[int, Field(ge=0, le=1024)]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    channels_last: bool
    compile: bool
    devices: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"]
    num_nodes: Annotated[int, Field(ge=1, le=65536)]
    strategy: Literal["auto", "ddp", "fsdp"]

    @model_validator(mode="after")
    def _relations(self) -> Self:
        self._check_regime()
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"train.warmup_epochs is {self.warmup_epochs}, but must be below train.epochs, {self.epochs}"
            )
        if self.schedule == "one_cycle" and not self.warmup_epochs:
            raise ValueError(
                "train.warmup_epochs is 0, but must be at least 1 when train.schedule is 'one_cycle', "
                "which rises over these epochs"
            )
        self._check_sharing()
        pseudo, is_own = self.augmentation.pseudo_unknowns, is_custom(self.loss)
        if pseudo != "none" and self.loss not in BACKGROUND_LOSSES and not is_own:
            raise ValueError(
                f"train.augmentation.pseudo_unknowns is {pseudo!r}, but must be 'none' when train.loss is "
                f"{self.loss!r}, which learns from known images alone; {', '.join(BACKGROUND_LOSSES)} "
                "learn from such pictures, too"
            )
        if self.augmentation.mixes and self.loss not in SOFT_LABEL_LOSSES and not is_own:
            raise ValueError(
                f"train.loss is {self.loss!r}, but must be one of {', '.join(SOFT_LABEL_LOSSES)} when "
                "train.augmentation.mixup_alpha or cutmix_alpha is above 0: they mix labels, too"
            )
        return self

    @property
    def views(self) -> int:
        """2 for a loss that compares two views of each image."""
        return 2 if self.loss == "supcon" else 1

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone sees each image once and learns nothing."""
        return self.regime in ("probe", "none")

    def _check_regime(self) -> None:
        if self.loss == "supcon" and (self.devices not in (1, "auto") or self.num_nodes != 1):
            raise ValueError(
                f"train.devices is {self.devices} and train.num_nodes is {self.num_nodes}, but must be 1 "
                "when train.loss is 'supcon', which compares all images of a batch with each other"
            )
        if self.is_frozen and (self.devices not in (1, "auto") or self.num_nodes != 1):
            raise ValueError(
                f"train.devices is {self.devices} and train.num_nodes is {self.num_nodes}, but must be 1 "
                f"when train.regime is {self.regime!r}: one device fits the head"
            )
        if self.regime == "probe" and (self.loss != "ce" or self.label_smoothing):
            raise ValueError(
                f"train.loss is {self.loss!r} and train.label_smoothing is {self.label_smoothing:g}, but "
                "must be 'ce' and 0 when train.regime is 'probe', which is a logistic regression; for "
                "another loss take tune_last with model.backbone.frozen_stages: all"
            )

    def _check_sharing(self) -> None:
        for key, value, others, why in (
            ("precision", "16-mixed", "32-true or bf16-mixed", "Fabric scales no loss there"),
            ("channels_last", True, "false", "weights are shared out in their usual layout"),
            ("optimizer", "lamb", "another one", "it needs the norm of each whole weight"),
        ):
            if self.strategy == "fsdp" and getattr(self, key) == value:
                told = str(value).lower() if isinstance(value, bool) else repr(value)
                raise ValueError(
                    f"train.{key} is {told}, but must be {others} when train.strategy is 'fsdp': {why}"
                )
