"""The section `extraction` of params.yaml."""

from __future__ import annotations

from osr.settings.base import Count, Section


class ExtractionSettings(Section):
    """Forward passes without training."""

    batch_size: Count
    odin: bool
