"""The schema of the `model` section: backbone, neck and head."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from osr.settings.base import Count, Section


class BackboneSettings(Section):
    """The network from image to features, and where its weights come from."""

    name: str
    weights: str
    small_image_stem: Literal["auto"] | bool
    frozen_stages: Annotated[int, Field(ge=0)] | Literal["auto", "all"]
    classifier: str
    options: dict[str, Any]


class ImageSettings(Section):
    """How an image becomes what the network takes; `auto` and [] mean as its trained weights want it."""

    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    interpolation: Literal["auto", "nearest", "bilinear", "bicubic"]
    crop_fraction: Annotated[float, Field(gt=0, le=1)] | Literal["auto", "none"]


class NeckSettings(Section):
    """What stands between backbone and head.

    `tanh` bounds the features by -1 and 1: activations of unknown images can be far larger than those of
    known ones (Sun et al. 2021, ReAct), and with them the logits.
    """

    name: Literal["identity", "linear", "tanh"]
    width: Count


class HeadSettings(Section):
    """The classifier, linear in the features."""

    name: Literal["linear", "weight_norm", "cosine", "reciprocal"]
    bias: bool
    scale: Annotated[float, Field(gt=0)]
    temperature: Annotated[float, Field(gt=0)]
    extra_classes: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.bias and self.name in ("cosine", "reciprocal"):
            raise ValueError(
                f"model.head.bias is true, but must be false when model.head.name is {self.name!r}, "
                "whose logits have no free bias"
            )
        return self


class ModelSettings(Section):
    """Backbone, neck and head."""

    image_size: Annotated[int, Field(ge=4)] | Literal["auto"]
    image: ImageSettings
    backbone: BackboneSettings
    neck: NeckSettings
    head: HeadSettings
