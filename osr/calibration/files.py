"""A calibration and how it was fitted, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from osr.calibration.calibrators import CALIBRATIONS, CalibrationFit
from osr.calibration.settings import CalibrationMethod
from osr.settings.base import Count, Section, Share
from osr.stored.files import checked, read_json, write_json
from osr.stored.origin import Origin

LARGEST = 1e100  # of what logits are multiplied by: their product stays finite
Coefficient = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]


class TemperatureContent(Section):
    """Of a `Temperature`."""

    temperature: Annotated[float, Field(ge=1 / LARGEST, le=LARGEST)]


class VectorContent(Section):
    """Of a `Vector`."""

    scale: tuple[Coefficient, ...]
    offset: tuple[Coefficient, ...]

    @model_validator(mode="after")
    def _one_per_class(self) -> Self:
        if not len(self.scale) == len(self.offset) > 0:
            counts = f"{len(self.scale)} and {len(self.offset)}"
            raise ValueError(f"scale and offset must hold one number per class, not {counts}")
        return self


class IsotonicContent(Section):
    """Of an `Isotonic`."""

    knots: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    values: tuple[Share, ...]

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not len(self.knots) == len(self.values) > 0:
            raise ValueError(
                f"knots and values must be as many, not {len(self.knots)} and {len(self.values)}"
            )
        for name, is_rising in (("knots", np.diff(self.knots) > 0), ("values", np.diff(self.values) >= 0)):
            if not is_rising.all():
                raise ValueError(f"{name} must rise, but do not after number {int(is_rising.argmin()) + 1}")
        return self


class FitContent(Section):
    """Of a `CalibrationFit`."""

    method: Literal["temperature", "vector", "isotonic"]
    settings: dict[str, Any]
    asked: CalibrationMethod
    not_used: str | None
    at_bound: str | None
    num_images: Count
    nll_before: float
    nll_held_out: float


class StoredCalibration(NamedTuple):
    """A calibration, the digests of what it was made from, and its own."""

    fit: CalibrationFit
    made_from: Origin
    digest: str

    @property
    def num_classes(self) -> int | None:
        """K where it has numbers per class; None where it goes with any."""
        scale = getattr(self.fit.calibration, "scale", None)
        return None if scale is None else len(scale)


def save_calibration(path: Path, fit: CalibrationFit, made_from: Origin) -> str:
    """Write JSON, whole or not at all; returns its digest."""
    return write_json(path, "calibration", fit.to_json(), made_from)


def load_calibration(path: Path) -> StoredCalibration:
    """Read what `save_calibration` wrote.

    Raises:
        InputError: the file is missing, damaged, was changed, or holds what is no calibration.
    """
    stored = read_json(path, "calibration")
    content = checked(path, FitContent, stored.content)
    settings = checked(path, CONTENTS[content.method], content.settings, key="settings")
    calibration = CALIBRATIONS[content.method](**settings.model_dump())
    told = {name: value for name, value in content if name not in ("method", "settings")}
    return StoredCalibration(CalibrationFit(calibration, **told), stored.made_from, stored.digest)


CONTENTS: dict[str, type[Section]] = {
    "temperature": TemperatureContent,
    "vector": VectorContent,
    "isotonic": IsotonicContent,
}
