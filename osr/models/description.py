"""What a weights file says of its network, checked: enough to build it anew."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from osr.models.computing import Computing
from osr.models.preprocess import ImageFormat
from osr.models.settings import ModelSettings
from osr.settings.base import Section

MAX_SIZE = 8192  # pixels; building a network passes one such image through it
MAX_WIDTH = 1 << 20  # of what is built before its weights show that it does not fit


class FormatDescription(Section):
    """An `ImageFormat` in a file."""

    size: Annotated[int, Field(ge=1, le=MAX_SIZE)]
    channels: int
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    interpolation: Literal["nearest", "bilinear", "bicubic"]
    crop_fraction: Annotated[float, Field(gt=0, le=1)] | None

    @model_validator(mode="after")
    def _one_per_channel(self) -> Self:
        if self.channels not in (1, 3):
            raise ValueError(f"image_format.channels is {self.channels}, but must be 1 or 3")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.channels:
                raise ValueError(
                    f"image_format.{name} is {list(getattr(self, name))}, but must hold one number for each "
                    f"of {self.channels} channels"
                )
        return self


class ComputingDescription(Section):
    """A `Computing` in a file."""

    channels_last: bool
    in_bfloat16: bool


class Description(Section):
    """All but the weights."""

    settings: ModelSettings
    image_format: FormatDescription
    computing: ComputingDescription
    class_names: tuple[str, ...]

    @field_validator("class_names")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("class_names is [], but must hold at least one name")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"class_names must hold each name once, not several times {', '.join(repeated)}")
        return names

    @field_validator("settings", mode="before")
    @classmethod
    def _from_before(cls, settings: Any) -> Any:
        """What held in files that were written before these settings were: they stood for nothing."""
        if not isinstance(settings, dict) or not isinstance(settings.get("neck"), dict):
            return settings
        return {"rotation_head": False, **settings, "neck": {"tau": 1.0, **settings["neck"]}}

    @field_validator("settings")
    @classmethod
    def _bounded(cls, settings: ModelSettings) -> ModelSettings:
        for key, value in (
            ("neck.width", settings.neck.width),
            ("head.extra_classes", settings.head.extra_classes),
        ):
            if value > MAX_WIDTH:
                raise ValueError(f"settings.{key} is {value}, but must be at most {MAX_WIDTH}")
        return settings

    @property
    def format(self) -> ImageFormat:
        """What the network takes."""
        return ImageFormat(**self.image_format.model_dump())

    @property
    def computed(self) -> Computing:
        """How it computes."""
        return Computing(**self.computing.model_dump())

    @property
    def bare_settings(self) -> ModelSettings:
        """The settings that build the same network without the weights it began with."""
        bare = self.settings.backbone.model_copy(update={"weights": "none"})
        return self.settings.model_copy(update={"backbone": bare})
