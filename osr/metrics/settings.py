"""The section `evaluate` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from osr.settings.base import Section, Seed, Share


class EvaluateSettings(Section):
    """Bootstrap intervals, and the folds of the estimate where no unknown image is tested."""

    estimate_folds: Annotated[int, Field(ge=0, le=1000)]
    bootstrap_replicates: Annotated[int, Field(ge=100, le=1_000_000)]
    confidence: Share
    seed: Seed

    @field_validator("estimate_folds")
    @classmethod
    def _none_or_several(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("evaluate.estimate_folds is 1, but must be 0 (no estimate) or at least 2")
        return folds
