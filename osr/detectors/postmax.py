"""The largest logit beside the length of the features, as a probability. Higher = more unknown."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.distances import lengths
from osr.detectors.gathered import Gathered, Part, Values
from osr.detectors.pareto import Pareto, fit_pareto, tail_in_order
from osr.errors import InputError


class PostMax(Detector):
    """1 - F(max z / |f|), F a generalised Pareto distribution of the training images. Cruz et al. 2024.

    F is fitted by maximum likelihood to the correctly classified training images. Its authors published no
    code, and we read no more of the paper than its abstract; decided here: the location is the smallest value
    in training, which takes no part in the fit, as its density would grow without end for heavy tails; the
    shape is at least -1 (`fit_pareto`); max z / |f| of features of zeros counts as 0. Where F is 0 or 1,
    which would make ties, the score goes on linearly above 1 and below 0: the order of the images is always
    that of max z / |f|.

    `fit` refuses training images of which fewer than two values are different.
    """

    name: ClassVar[str] = "postmax"
    needs_fit: ClassVar[bool] = True

    def _gather(self, images: Images) -> dict[str, Part]:
        # Made before the chunks, as in `Tails.of`.
        values, count = torch.empty(len(images), dtype=torch.float64, device=images.device), 0
        for batch in images.batches():
            found = _relative(batch)[batch.predictions == batch.labels]
            values[count : count + len(found)] = found
            count += len(found)
        return {"relative": Values(values[:count].clone())}

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        values = found["relative"].values.cpu().numpy()
        if not len(values) or not np.ptp(values) > 0:
            raise InputError(
                "postmax needs correctly classified training images whose largest logits, divided by the "
                "length of the features, differ; these do not: train longer, give more images, or leave "
                "postmax out of detectors.enabled."
            )
        excesses = values - values.min()
        fit = fit_pareto(excesses[excesses > 0])
        return {"fit": torch.tensor([values.min(), *fit], dtype=torch.float64, device=found.device)}

    def _score(self, batch: Batch) -> Tensor:
        location, scale, shape = self._state["fit"].tolist()
        return tail_in_order(_relative(batch) - location, Pareto(scale, shape))


def _relative(batch: Batch) -> Tensor:
    """(n,) float64, max z / |f|, and 0 for features of zeros."""
    size = lengths(batch.features.double())
    return torch.where(size == 0, 0.0, batch.logits.amax(1).double() / size)
