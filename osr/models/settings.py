"""The schema of the `model` section: backbone, neck and head."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from osr.settings.base import CountOrZero, Positive, Section


class BackboneSettings(Section):
    """The network from image to features, and where its weights come from."""

    name: str
    weights: str
    small_image_stem: Literal["auto"] | bool
    frozen_stages: CountOrZero | Literal["auto", "all"]
    classifier: str
    options: dict[str, Any]


class ImageSettings(Section):
    """How an image becomes what the network takes; `auto` and [] mean as its trained weights want it."""

    mean: tuple[Annotated[float, Field(ge=-1e3, le=1e3)], ...]
    std: tuple[Annotated[float, Field(ge=1e-6, le=1e3)], ...]
    interpolation: Literal["auto", "nearest", "bilinear", "bicubic"]
    crop_fraction: Annotated[float, Field(ge=1e-3, le=1)] | Literal["auto", "none"]

    @model_validator(mode="after")
    def _channels(self) -> Self:
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, 1, 3):
            raise ValueError(
                f"model.image.mean is {list(self.mean)} and model.image.std is {list(self.std)}, but must "
                "both be [] or hold 1 or 3 numbers, one per channel of what the network takes"
            )
        return self


class NeckSettings(Section):
    """What stands between backbone and head.

    `tanh` bounds the features by -1 and 1: activations of unknown images can be far larger than those of
    known ones (Sun et al. 2021, ReAct), and with them the logits. For `t2fnorm` see `osr.models.necks`.
    """

    name: Literal["identity", "linear", "tanh", "t2fnorm"]
    width: Annotated[int, Field(ge=1, le=1_000_000)]
    tau: Positive


class HeadSettings(Section):
    """The classifier, linear in the features."""

    name: Literal["linear", "weight_norm", "cosine", "reciprocal"]
    bias: bool
    scale: Positive
    temperature: Positive
    extra_classes: Annotated[int, Field(ge=0, le=10_000)]

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.bias and self.name in ("cosine", "reciprocal"):
            raise ValueError(
                f"model.head.bias is true, but must be false when model.head.name is {self.name!r}, "
                "whose logits have no free bias"
            )
        return self


class ModelSettings(Section):
    """Backbone, neck, head, and a second head of quarter turns."""

    image_size: Annotated[int, Field(ge=4, le=8192)] | Literal["auto"]
    image: ImageSettings
    backbone: BackboneSettings
    neck: NeckSettings
    head: HeadSettings
    rotation_head: bool

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.neck.name == "t2fnorm" and self.head.name in ("cosine", "reciprocal"):
            raise ValueError(
                f"model.head.name is {self.head.name!r}, but must be 'linear' or 'weight_norm' when "
                "model.neck.name is 't2fnorm': cosine never sees the length of the features, and "
                "reciprocal learns from it, which that neck hides in training"
            )
        return self
