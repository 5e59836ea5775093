"""What every section of params.yaml has in common, and the types its settings share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Space = Literal["features", "logits"]
ThresholdRule = Literal["acceptance", "conformal", "conformal_per_class", "background"]
CorruptionName = Literal["noise", "blur", "jpeg", "contrast", "rotation"]

# Bounds: what no experiment needs and float32, an index or a machine's memory cannot hold.
MANY = 10**9
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=1e-9, lt=1)]
Count = Annotated[int, Field(ge=1, le=MANY)]
CountOrZero = Annotated[int, Field(ge=0, le=MANY)]
Pixels = Annotated[int, Field(ge=1, le=8192)]
PixelsOrZero = Annotated[int, Field(ge=0, le=8192)]
Positive = Annotated[float, Field(ge=1e-6, le=1e6)]
Weight = Annotated[float, Field(ge=0, le=1e6)]


class Section(BaseModel):
    """Base of every section: frozen, strict about types, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value
