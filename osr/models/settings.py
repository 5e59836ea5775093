"""The schema of the `model` section: backbone, neck and head."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from osr.sections import Count, Section


class BackboneSettings(Section):
    """The network from image to features, and where its weights come from."""

    name: str
    weights: str
    small_image_stem: Literal["auto"] | bool


class NeckSettings(Section):
    """What stands between backbone and head."""

    name: Literal["identity", "linear"]
    width: Count


class HeadSettings(Section):
    """The linear classifier."""

    bias: bool


class ModelSettings(Section):
    """Backbone, neck and head."""

    image_size: Annotated[int, Field(ge=4)] | Literal["auto"]
    backbone: BackboneSettings
    neck: NeckSettings
    head: HeadSettings
