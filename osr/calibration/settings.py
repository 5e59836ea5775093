"""The section `calibrate` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from osr.settings.base import Positive, Section, Seed

CalibrationMethod = Literal["temperature", "vector", "isotonic", "none"]


class CalibrateSettings(Section):
    """How probabilities are calibrated, and the bins of the calibration error."""

    method: CalibrationMethod
    folds: Annotated[int, Field(ge=2, le=1000)]
    seed: Seed
    min_temperature: Positive
    max_temperature: Positive
    ece_bins: Annotated[int, Field(ge=1, le=1_000_000)]

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if not self.min_temperature < 1 < self.max_temperature:
            raise ValueError(
                f"calibrate.min_temperature is {self.min_temperature} and calibrate.max_temperature is "
                f"{self.max_temperature}, but the first must be below 1 and the second above 1"
            )
        return self
