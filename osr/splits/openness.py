"""How open a test is."""

from __future__ import annotations

import math

from osr.errors import InputError


def openness(num_known: int, num_unknown: int) -> float:
    """1 - sqrt(2K / (2K + number of unknown classes)), in 0..1 (Geng et al. 2020)."""
    if num_known < 1 or num_unknown < 0:
        raise InputError(
            f"openness needs at least 1 known class and no negative count, not {num_known}, {num_unknown}."
        )
    return 1 - math.sqrt(2 * num_known / (2 * num_known + num_unknown))
