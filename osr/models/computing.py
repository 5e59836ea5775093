"""How a network computes when it learns nothing: written into its file, so that all who judge do the same."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Computing:
    """Memory layout and precision of a forward pass.

    Args:
        channels_last: memory layout of the convolutions.
        in_bfloat16: backbone and neck compute matrices and convolutions in bfloat16; the head never does, so
            the logits are linear in the features all the same.
    """

    channels_last: bool = False
    in_bfloat16: bool = False
