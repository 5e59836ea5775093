"""The section `evaluate` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from osr.settings.base import Section, Seed, Share


class EvaluateSettings(Section):
    """Bootstrap intervals."""

    bootstrap_replicates: Annotated[int, Field(ge=100)]
    confidence: Share
    seed: Seed
