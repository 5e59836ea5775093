"""The section `evaluate` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from osr.settings.base import CorruptionName, Section, Seed, Share, Weight

TEST = "test"


class CostsSettings(Section):
    """What one image costs, in any unit; one that is accepted with its right class costs nothing."""

    misclassified_known: Weight
    accepted_unknown: Weight
    rejected_known: Weight
    rejected_unknown: Weight

    @property
    def largest(self) -> float:
        """The largest of the four, above 0."""
        return max(
            self.misclassified_known, self.accepted_unknown, self.rejected_known, self.rejected_unknown
        )

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.largest == 0:
            raise ValueError("evaluate.costs are all 0, but one of them at least must be above 0")
        return self


class ShiftsSettings(Section):
    """How known test images are corrupted, to see what detectors make of them."""

    corruptions: tuple[CorruptionName, ...]
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for key, values in (("corruptions", self.corruptions), ("severities", self.severities)):
            if len(set(values)) < len(values):
                raise ValueError(f"evaluate.shifts.{key} is {list(values)}, but must hold each once")
        if self.corruptions and not self.severities:
            raise ValueError("evaluate.shifts.severities is [], but must hold one of 1 to 5 at least")
        return self


class EvaluateSettings(Section):
    """Intervals, the estimate where no unknown image is tested, expected costs, and shifted known images."""

    estimate_folds: Annotated[int, Field(ge=0, le=1000)]
    bootstrap_replicates: Annotated[int, Field(ge=100, le=1_000_000)]
    confidence: Share
    seed: Seed
    prevalence: Literal["test"] | Annotated[float, Field(ge=0, le=1)]
    costs: CostsSettings
    shifts: ShiftsSettings
    assumed_auroc: Annotated[float, Field(ge=0.5, le=0.9999)]

    @field_validator("estimate_folds")
    @classmethod
    def _none_or_several(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("evaluate.estimate_folds is 1, but must be 0 (no estimate) or at least 2")
        return folds
