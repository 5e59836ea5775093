"""Where an image lies beside the rows of the head. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.distances import lengths
from osr.detectors.gathered import Gathered, Part
from osr.detectors.moments import feature_sum

# Rows of the head closer than this share of the longest row are one and the same.
_SAME_ROW = 1e-6
_MIN_LENGTH = 1e-12


class Fdbd(Detector):
    """-mean over c of |z_y - z_c| / |w_y - w_c|, divided by |f - m|, y the predicted class. Liu and Qin 2024.

    Each term is the distance from f to the boundary between y and c; m is the mean training feature. Classes
    with the same row in W have no boundary and are left out of the mean; |f - m| counts as at least 1e-12.
    """

    name: ClassVar[str] = "fdbd"
    needs_fit: ClassVar[bool] = True

    def _gather(self, images: Images) -> dict[str, Part]:
        return {"sum": feature_sum(images)}

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        weight, _ = found.head
        weight = weight - weight.mean(0)
        squares = weight.square().sum(1)
        gaps = (squares[:, None] + squares - 2 * weight @ weight.T).clamp_min(0).sqrt()
        distinct = gaps > _SAME_ROW * squares.max().sqrt()
        distinct.fill_diagonal_(False)
        count = distinct.sum(1, keepdim=True).clamp_min(1)
        factors = torch.where(distinct, 1 / (gaps * count), 0.0)
        return {"mean": found["sum"] / found.count, "factors": factors.float()}

    def _score(self, batch: Batch) -> Tensor:
        below = batch.logits.amax(1, keepdim=True) - batch.logits
        distances = below.mul_(self._state["factors"].index_select(0, batch.predictions)).sum(1)
        sizes = lengths(batch.features.double() - self._state["mean"])
        return -distances.double() / sizes.clamp_min(_MIN_LENGTH)


@dataclass(kw_only=True, eq=False)
class Nci(Detector):
    """-(<w_y, f - m> / |f - m| + alpha |f|_1), y the predicted class. Liu and Qin 2025.

    m is the mean training feature. Near a collapsed class the centred features point along w_y, and unknown
    images lie nearer the origin; |f - m| counts as at least 1e-12.

    Args:
        alpha: weight of the second term, 0 or more. The paper chooses it for each network on unknown images;
            0 needs none.
    """

    name: ClassVar[str] = "nci"
    needs_fit: ClassVar[bool] = True
    alpha: float

    def _gather(self, images: Images) -> dict[str, Part]:
        return {"sum": feature_sum(images)}

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        return {"mean": found["sum"] / found.count}

    def _score(self, batch: Batch) -> Tensor:
        features = batch.features.double()
        centred = features - self._state["mean"]
        along = batch.weight.index_select(0, batch.predictions).double().mul_(centred).sum(1)
        return -(along / lengths(centred).clamp_min(_MIN_LENGTH) + self.alpha * features.abs().sum(1))
