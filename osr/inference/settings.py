"""The section `extraction` of params.yaml."""

from __future__ import annotations

from typing import Literal

from osr.settings.base import Count, Section


class ExtractionSettings(Section):
    """Forward passes without training."""

    batch_size: Count
    channels_last: bool
    precision: Literal["32-true", "bf16-mixed"]
    odin: bool
