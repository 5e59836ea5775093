"""OpenMax: softmax over K + 1 classes after Weibull recalibration. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.classes import refuse_few
from osr.detectors.distances import distance_to
from osr.detectors.gathered import Gathered, Part
from osr.detectors.settings import Distance
from osr.detectors.tails import Tails
from osr.detectors.weibull import fit_weibull, fittable, weibull_cdf
from osr.errors import InputError
from osr.outputs import UNKNOWN, Outputs
from osr.settings.base import Space

# What the smallest distance of a class's tail becomes before the fit.
SMALLEST_BECOMES = {"libmr": 1.0, "osdn": 10_000.0}


@dataclass(kw_only=True, eq=False)
class OpenMax(Detector):
    """P(unknown) of the K + 1 recalibrated classes. Bendale and Boult 2016.

    Fit: for each class the mean activation vector of its training images, their distances to it, and a
    Weibull distribution fitted by maximum likelihood to the `tail_size` largest of these distances, all moved
    by one number t where there is a `translation`; a distance d counts as max(d + t, 0) then and later.
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
        translation: none: t = 0; libmr: the smallest distance of the tail becomes 1, as in libmr 0.1.9 and so
            in OpenOOD; osdn: it becomes 10,000, as in the libMR of the authors' program (OSDN) and in
            pytorch-ood. The larger, the nearer the distribution comes to a Gumbel distribution.

    Published programs differ in these settings; `presets/openmax_*.yaml` name those of four. OpenOOD also
    rejects below a probability of 0.9, which is not copied.

    `fit` refuses a class with fewer (correctly classified) training images than tail_size, and one whose
    largest distances are all equal or, without a translation, reach down to 0: they have no Weibull fit. Of
    merged shards, each of which keeps several times `tail_size` images of a class, it also refuses a class
    whose tail could hold an image that was not kept (`Tails`).
    """

    name: ClassVar[str] = "openmax"
    needs_fit: ClassVar[bool] = True
    space: Space
    distance: Distance
    tail_size: int
    alpha: int
    weighting: Literal["code", "paper"]
    correct_only: bool
    translation: Literal["none", "libmr", "osdn"]

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
        return self._learn(Gathered.of(images, {"tails": self._tails(images, alone=True)}))

    def _gather(self, images: Images) -> dict[str, Part]:
        return {"tails": self._tails(images, alone=False)}

    def _tails(self, images: Images, *, alone: bool) -> Tails:
        return Tails.of(
            images,
            self.space,
            distance=self.distance,
            correct_only=self.correct_only,
            tail=self.tail_size,
            alone=alone,
        )

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        tails: Tails = found["tails"]
        refuse_few(tails.counts, self.tail_size, self.name, correct_only=self.correct_only)
        distances, labels = tails.distances.cpu().numpy(), tails.labels.cpu().numpy()
        largest = largest_per_class(distances, labels, self.tail_size)
        uncertain = np.flatnonzero(tails.reach.cpu().numpy() > largest[:, 0])
        if len(uncertain):
            raise InputError(
                f"openmax cannot tell the {self.tail_size} images of class {uncertain[0]} that lie "
                "furthest from its mean: the means of the shards lie too far apart, and each keeps "
                f"{tails.kept} images of a class. Deal the images to the shards at random, make fewer and "
                "larger ones, or call fit with all images."
            )
        return {"means": tails.means} | {
            key: torch.from_numpy(values).to(found.device) for key, values in self._weibull(largest).items()
        }

    def _weibull(self, tails: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Shape, scale and translation of each class, (K,) each, of its largest distances (K, tail_size)."""
        smallest, moves = tails[:, 0], self.translation != "none"
        moved = SMALLEST_BECOMES[self.translation] - smallest if moves else np.zeros_like(smallest)
        samples = tails + moved[:, None]
        bad = np.flatnonzero(~fittable(samples))
        if len(bad):
            worst = tails[bad[0]]
            raise InputError(
                f"openmax cannot fit a Weibull distribution to class {bad[0]}: the {self.tail_size} largest "
                f"distances to its mean range from {worst[0]:g} to {worst[-1]:g}, but must "
                f"{'' if moves else 'be above 0 and must '}not all be equal. Look for repeated images, or "
                "change detectors.openmax.tail_size."
            )
        shape, scale = fit_weibull(samples)
        return {"weibull_shape": shape, "weibull_scale": scale, "translation": moved}

    def _score(self, batch: Batch) -> Tensor:
        return torch.softmax(self._recalibrated(batch), 1)[:, -1]

    def _recalibrated(self, batch: Batch) -> Tensor:
        """(n, K + 1) float64, the recalibrated logits and the unknown one."""
        keys = ("means", "weibull_shape", "weibull_scale", "translation")
        means, shape, scale, translation = (self._state[key] for key in keys)
        alpha = min(self.alpha, len(means))
        logits, ranked = batch.logits.topk(alpha, dim=1)
        values = batch.space(self.space).double()
        distances = torch.stack(
            [distance_to(values, means, ranked[:, rank], self.distance) for rank in range(alpha)], dim=1
        )
        rank_weight = torch.arange(alpha, 0, -1, dtype=torch.float64, device=values.device)
        if self.weighting == "paper":
            rank_weight -= 1
        moved_distances = (distances + translation[ranked]).clamp_min(0)
        rejection = weibull_cdf(moved_distances, shape[ranked], scale[ranked]) * (rank_weight / alpha)
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
