"""One Gaussian per class with a shared covariance. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.classes import class_means
from osr.detectors.distances import contrasts, lengths, nearest
from osr.detectors.moments import scatter, times_triangle
from osr.errors import InputError


@dataclass(kw_only=True, eq=False)
class Mahalanobis(Detector):
    """min over classes of (f - m_c)' P (f - m_c), the squared Mahalanobis distance. Lee et al. 2018.

    P is the inverse of the covariance around the class means plus `ridge` times its mean variance on the
    diagonal. The published pseudo-inverse would ignore a feature that never varies in training; here a test
    image that moves in it is far.

    Args:
        ridge: share of the mean variance added to each variance, above 0; small, so that it matters only in
            directions that hardly vary.

    `fit` refuses a class without training images, and features that do not vary.
    """

    name: ClassVar[str] = "mahalanobis"
    needs_fit: ClassVar[bool] = True
    ridge: float

    def _fit(self, images: Images) -> dict[str, Tensor]:
        centre, means, total, between = _moments(images, self.name)
        whitener = _whitener(total - between, self.ridge, self.name)
        return {
            "centre": centre.float(),
            "whitener": whitener.float(),
            **_whitened(means - centre, whitener),
        }

    def _score(self, batch: Batch) -> Tensor:
        centred = batch.features - self._state["centre"]
        return _to_nearest(times_triangle(centred, self._state["whitener"]), self._state)


@dataclass(kw_only=True, eq=False)
class Rmds(Detector):
    """Relative: the score of `Mahalanobis` minus that of one Gaussian for all classes. Ren et al. 2021.

    Args:
        ridge: as in `Mahalanobis`, for both covariances.

    `fit` refuses a class without training images, and features that do not vary.
    """

    name: ClassVar[str] = "rmds"
    needs_fit: ClassVar[bool] = True
    ridge: float

    def _fit(self, images: Images) -> dict[str, Tensor]:
        centre, means, total, between = _moments(images, self.name)
        whitener = _whitener(total - between, self.ridge, self.name)
        return {
            "centre": centre.float(),
            "whitener": whitener.float(),
            **_whitened(means - centre, whitener),
            "class_free_whitener": _whitener(total, self.ridge, self.name).float(),
        }

    def _score(self, batch: Batch) -> Tensor:
        centred = batch.features - self._state["centre"]
        own = _to_nearest(times_triangle(centred, self._state["whitener"]), self._state)
        free = times_triangle(centred, self._state["class_free_whitener"])
        return own - lengths(free).double().square_()


def _moments(images: Images, detector: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean of all images, class means, covariance of all images, covariance of the class means; float64."""
    means, counts = class_means(images, "features", correct_only=False, detector=detector)
    share = counts.double() / counts.sum()
    centre = share @ means
    spread = (means - centre) * share.sqrt()[:, None]
    return centre, means, scatter(images, centre) / counts.sum(), spread.T @ spread


def _whitener(covariance: Tensor, ridge: float, detector: str) -> Tensor:
    """(D, D) float64, upper triangular A with A A' the inverse of covariance + ridge * mean variance."""
    variance = float(covariance.diagonal().mean())
    if not variance > 0:
        raise InputError(
            f"{detector} needs training features that vary within the classes; these are constant."
        )
    identity = torch.eye(len(covariance), dtype=torch.float64, device=covariance.device)
    factor = torch.linalg.cholesky(covariance + ridge * variance * identity)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse.T.contiguous()


def _whitened(means: Tensor, whitener: Tensor) -> dict[str, Tensor]:
    means = means @ whitener
    directions, offsets = contrasts(means)
    return {"means": means.float(), "directions": directions, "offsets": offsets}


def _to_nearest(values: Tensor, state: dict[str, Tensor]) -> Tensor:
    """(n,) squared euclidean distance to the nearest mean."""
    rows = nearest(values, state["directions"], state["offsets"])
    return lengths(state["means"].index_select(0, rows).sub_(values)).double().square_()
