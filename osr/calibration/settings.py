"""The section `calibrate` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from osr.settings.base import Section

CalibrationMethod = Literal["temperature", "vector", "isotonic", "none"]


class CalibrateSettings(Section):
    """How probabilities are calibrated."""

    method: CalibrationMethod
    folds: Annotated[int, Field(ge=2, le=1000)]
