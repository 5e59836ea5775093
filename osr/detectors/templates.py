"""One stored template per class, compared with each image. Higher = more unknown."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.classes import class_means, class_sums, gather_classes
from osr.detectors.distances import rounded, unit
from osr.detectors.gathered import Gathered, Part
from osr.detectors.selection import argmax
from osr.detectors.softmax import shifted, split_exponentials

# Logarithms of a template that does not exist: never the nearest, and still a number.
_ABSENT = -1e30


class Klm(Detector):
    """KL matching: min over classes of KL(p || d_c), p = softmax(z). Hendrycks et al. 2022.

    d_c is the mean p of the training images that are predicted as class c. A class that is never predicted
    has no d_c and takes no part. Probabilities below the smallest normal float32 count as that.
    """

    name: ClassVar[str] = "klm"
    needs_fit: ClassVar[bool] = True

    def _gather(self, images: Images) -> dict[str, Part]:
        sums = torch.zeros((images.num_classes,) * 2, dtype=torch.float64, device=images.device)
        counts = torch.zeros(images.num_classes, dtype=torch.int64, device=images.device)
        for batch in images.batches():
            others, largest, rest = split_exponentials(batch.logits.double())
            others /= (largest * (1 + rest))[:, None]
            sums += class_sums(others, batch.predictions, images.num_classes)
            counts += torch.bincount(batch.predictions, minlength=images.num_classes)
        return {"sums": sums, "counts": counts}

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        counts = found["counts"]
        others_mean = found["sums"] / counts.clamp_min(1)[:, None]
        log_own = torch.log1p(-others_mean.sum(1))
        logs = others_mean.clamp_min(torch.finfo(torch.float32).tiny).log()
        logs.diagonal().copy_(log_own)
        logs[counts == 0] = _ABSENT
        return {"log_templates": logs, "log_own": log_own}

    def _score(self, batch: Batch) -> Tensor:
        # Float64: of logits that are nearly equal, nearly all of the divergence cancels.
        logits = batch.logits.double()
        others, largest, rest = split_exponentials(logits)
        predicted, logs = batch.predictions, self._state["log_templates"]
        match = argmax(others.scatter(1, predicted[:, None], largest[:, None]) @ logs.T)
        # The divergence itself, the predicted class apart: nearly all of it cancels for a confident image.
        log_total = rest.log1p()
        log_ratio = shifted(logits).sub_(log_total[:, None]).sub_(logs.index_select(0, match))
        own = torch.where(match == predicted, self._state["log_own"][match], logs[match, predicted])
        divergence = (others.mul_(log_ratio).sum(1) / largest - log_total - own) / (1 + rest)
        return divergence.clamp_min(0)


class She(Detector):
    """-<f, mean feature of the predicted class>, the simplified Hopfield energy. Zhang et al. 2023.

    The mean is over the correctly classified training images. `fit` refuses a class that has none.
    """

    name: ClassVar[str] = "she"
    needs_fit: ClassVar[bool] = True

    def _gather(self, images: Images) -> dict[str, Part]:
        return {**gather_classes(images, "features", correct_only=True)}

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        return {"means": class_means(found["sums"], found["counts"], detector=self.name, correct_only=True)}

    def _score(self, batch: Batch) -> Tensor:
        return -self._state["means"].index_select(0, batch.predictions).mul_(batch.features).sum(1)


class Cosine(Detector):
    """-max over classes of cos(f, m_c), m_c the mean training feature of class c. Bitterwolf et al. 2023.

    The means are those of the features as they are, not of features of length 1, as in the published code.
    The cosine of a vector of zeros is 0. `fit` refuses a class without training images.
    """

    name: ClassVar[str] = "cosine"
    needs_fit: ClassVar[bool] = True

    def _gather(self, images: Images) -> dict[str, Part]:
        return {**gather_classes(images, "features", correct_only=False)}

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        return {"directions": unit(class_means(found["sums"], found["counts"], detector=self.name))}

    def _score(self, batch: Batch) -> Tensor:
        return -rounded(self._cosines(batch).amax(1))

    def _cosines(self, batch: Batch) -> Tensor:
        """(n, K) float64."""
        return unit(batch.features.double()) @ self._state["directions"].T


class RCos(Cosine):
    """Relative cosine: -max of the softmax of `Cosine`'s cosines, temperature 1. Bitterwolf et al. 2023."""

    name: ClassVar[str] = "rcos"

    def _score(self, batch: Batch) -> Tensor:
        return -rounded(self._cosines(batch).softmax(1).amax(1))
