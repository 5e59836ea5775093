"""The section `extraction` of params.yaml."""

from __future__ import annotations

from typing import Literal

from osr.settings.base import Count, Section


class ExtractionSettings(Section):
    """Forward passes without training, and what of them is stored."""

    batch_size: Count
    channels_last: bool
    precision: Literal["32-true", "bf16-mixed"]
    odin: bool
    rotations: bool
    store: Literal["features", "features+logits"]
    features: Literal["float32", "float16"]
