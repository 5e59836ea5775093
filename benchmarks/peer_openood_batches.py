"""What OpenOOD's algorithms share: scores are made batch by batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osr.detectors.settings import DetectorsSettings
from osr.outputs import Outputs

Array = NDArray[np.floating]
Score = Callable[[Outputs], Array]
Peer = Callable[[Outputs, DetectorsSettings], Score]
BATCH = 200


def batched(score: Callable[[Tensor, Tensor], Tensor | Array]) -> Score:
    """Score batch by batch; the function takes logits and features."""

    def scored(test: Outputs) -> Array:
        parts = []
        for start in range(0, len(test), BATCH):
            rows = slice(start, start + BATCH)
            parts.append(
                np.asarray(score(torch.from_numpy(test.logits[rows]), torch.from_numpy(test.features[rows])))
            )
        return np.concatenate(parts)

    return scored
