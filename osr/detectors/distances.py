"""Distances of images to class means, and the simplest detector made of them. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from osr.detectors.base import Batch, Detector, Images, Space
from osr.detectors.classes import class_means
from osr.detectors.selection import argmax

Distance = Literal["euclidean", "cosine", "eucos"]

# Bendale and Boult's published code divides the euclidean part of eucos by this.
EUCOS_DIVISOR = 200.0


@dataclass(kw_only=True, eq=False)
class Mav(Detector):
    """Euclidean distance to the nearest mean activation vector.

    The mean activation vector of a class is the mean over its correctly classified training images (Bendale
    and Boult 2016); OpenMax without Weibull fit and recalibration.

    Args:
        space: distance between features or between logits.

    `fit` refuses a class without correctly classified training images.
    """

    name: ClassVar[str] = "mav"
    needs_fit: ClassVar[bool] = True
    space: Space

    def _fit(self, images: Images) -> dict[str, Tensor]:
        means, _ = class_means(images, self.space, correct_only=True, detector=self.name)
        return {"means": means.float()}

    def _score(self, batch: Batch) -> Tensor:
        values, means = batch.space(self.space), self._state["means"]
        return distance_to(values, means[nearest(values, means)], "euclidean")


def nearest(values: Tensor, means: Tensor) -> Tensor:
    """(n,) int64, the row of `means` (K, D) nearest to each row of `values` (n, D), euclidean."""
    # Centred, because |x|^2 - 2 x.m + |m|^2 cancels when all points are far from the origin.
    centre = means.mean(0)
    means = means - centre
    return argmax(torch.addmm(-(means * means).sum(1), values - centre, means.T, alpha=2))


def distance_to(values: Tensor, targets: Tensor, distance: Distance) -> Tensor:
    """Distance of each row of `values` (n, D) to the same row of `targets`: (n,).

    eucos is euclidean / 200 + cosine. The cosine distance 1 - cos of a zero vector to anything is 1.
    """
    if distance == "euclidean":
        return lengths(values - targets)
    product = (lengths(values) * lengths(targets)).clamp_min(torch.finfo(values.dtype).tiny)
    cosine = (1 - (values * targets).sum(1) / product).clamp_min(0)
    return cosine if distance == "cosine" else lengths(values - targets) / EUCOS_DIVISOR + cosine


def lengths(values: Tensor) -> Tensor:
    """Euclidean length of each row, (n,)."""
    result: Tensor = torch.linalg.vector_norm(values, dim=1)
    return result
