"""OpenMax: softmax over K + 1 classes after Weibull recalibration. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images, Space
from osr.detectors.classes import class_means, taken
from osr.detectors.distances import Distance, distance_to
from osr.detectors.weibull import fit_weibull, fittable, weibull_cdf
from osr.errors import InputError
from osr.outputs import UNKNOWN, Outputs


@dataclass(kw_only=True, eq=False)
class OpenMax(Detector):
    """P(unknown) of the K + 1 recalibrated classes. Bendale and Boult 2016.

    Fit: for each class the mean activation vector of its training images, their distances to it, and a
    Weibull distribution fitted by maximum likelihood to the `tail_size` largest of these distances.
    Score: w_i is the Weibull CDF of the image's distance to class i. For the alpha classes with the largest
    logits, rank r = 1 .. alpha, v'_i = v_i (1 - w_i u_r) with u_r from `weighting`; the unknown logit is the
    sum of v_i - v'_i; softmax over the K + 1. Rejecting a class with a negative logit raises that logit and
    lowers the unknown one: that is the published formula, kept as it is.

    Args:
        space: mean activation vectors and distances of features or of logits (the logits are always what is
            recalibrated). Published: logits.
        distance: euclidean, cosine (1 - cos), or eucos (euclidean / 200 + cosine).
        tail_size: how many of the largest distances per class the Weibull sees, at least 2. Published: 20.
        alpha: how many top-ranked classes are revised; effectively min(alpha, K).
        weighting: code: u_r = (alpha - r + 1) / alpha, the published program; paper: (alpha - r) / alpha,
            which leaves the last of the alpha classes as it is, so that alpha = 1 revises nothing.
        correct_only: fit on correctly classified training images only, as published.

    Published programs differ in these settings; `presets/openmax_*.yaml` name those of four. None of the
    programs' other differences is copied: libmr and pytorch-ood move the distances before the fit, by 1 and
    10,000; OpenOOD also rejects below a probability of 0.9.

    `fit` refuses a class with fewer (correctly classified) training images than tail_size, and one whose
    largest distances are all equal or reach down to 0: they have no Weibull fit.
    """

    name: ClassVar[str] = "openmax"
    needs_fit: ClassVar[bool] = True
    space: Space
    distance: Distance
    tail_size: int
    alpha: int
    weighting: Literal["code", "paper"]
    correct_only: bool

    def probabilities(self, outputs: Outputs) -> NDArray[np.float64]:
        """Probabilities of the K known classes and, last, of unknown: (N, K + 1) float64, rows sum to 1.

        Raises:
            NotFittedError: `fit` was not called.
            InputError: the outputs are those of another network.
        """
        self._check_usable(outputs)
        result = np.empty((len(outputs), outputs.num_classes + 1), dtype=np.float64)
        for batch in Images(outputs, None, self._device).batches():
            result[batch.rows] = torch.softmax(self._recalibrated(batch), 1).cpu().numpy()
        return result

    def decisions(self, outputs: Outputs) -> NDArray[np.int64]:
        """The most probable of the K + 1 classes, the published verdict, without a threshold.

        Returns:
            (N,) int64, a known class 0..K-1 or UNKNOWN (-1); the known one of equal ones.

        Raises:
            NotFittedError: `fit` was not called.
            InputError: the outputs are those of another network.
        """
        winner = self.probabilities(outputs).argmax(axis=1)
        return np.where(winner == outputs.num_classes, UNKNOWN, winner).astype(np.int64)

    def _fit(self, images: Images) -> dict[str, Tensor]:
        means, _ = class_means(
            images, self.space, correct_only=self.correct_only, detector=self.name, needed=self.tail_size
        )
        distances, labels = [], []
        for batch in images.batches():
            values, classes = taken(batch, self.space, correct_only=self.correct_only)
            distances.append(distance_to(values.double(), means, classes, self.distance).cpu())
            labels.append(classes.cpu())
        tails = largest_per_class(torch.cat(distances).numpy(), torch.cat(labels).numpy(), self.tail_size)
        bad = np.flatnonzero(~fittable(tails))
        if len(bad):
            raise InputError(
                f"openmax cannot fit a Weibull distribution to class {bad[0]}: the {self.tail_size} "
                f"largest distances to its mean range from {tails[bad[0]].min():g} to "
                f"{tails[bad[0]].max():g}, but must be above 0 and must not all be equal. Look for "
                "repeated images, or change detectors.openmax.tail_size."
            )
        shape, scale = (torch.from_numpy(values).to(means.device) for values in fit_weibull(tails))
        return {"means": means, "weibull_shape": shape, "weibull_scale": scale}

    def _score(self, batch: Batch) -> Tensor:
        return torch.softmax(self._recalibrated(batch), 1)[:, -1]

    def _recalibrated(self, batch: Batch) -> Tensor:
        """(n, K + 1) float64, the recalibrated logits and the unknown one."""
        means, shape, scale = (self._state[key] for key in ("means", "weibull_shape", "weibull_scale"))
        alpha = min(self.alpha, len(means))
        logits, ranked = batch.logits.topk(alpha, dim=1)
        values = batch.space(self.space).double()
        distances = torch.stack(
            [distance_to(values, means, ranked[:, rank], self.distance) for rank in range(alpha)], dim=1
        )
        rank_weight = torch.arange(alpha, 0, -1, dtype=torch.float64, device=values.device)
        if self.weighting == "paper":
            rank_weight -= 1
        rejection = weibull_cdf(distances, shape[ranked], scale[ranked]) * (rank_weight / alpha)
        moved = logits.double() * rejection
        known = batch.logits.double().scatter_add(1, ranked, -moved)
        return torch.cat([known, moved.sum(1, keepdim=True)], dim=1)


def largest_per_class(
    values: NDArray[np.float64], labels: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """The `count` largest values of each class, rising: (K, count); no class has fewer."""
    by_class = values[np.lexsort((values, labels))]
    ends = np.cumsum(np.bincount(labels))
    return np.asarray(by_class[ends[:, None] + np.arange(-count, 0)])
