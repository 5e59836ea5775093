"""One Gaussian per class with a shared covariance. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.classes import refuse_few
from osr.detectors.distances import contrasts, lengths, nearest, rounded
from osr.detectors.gathered import Gathered, Part
from osr.detectors.moments import Moments, times_triangle
from osr.detectors.sample import Sample
from osr.detectors.shrinkage import NUM_LEFT_OUT, held_out_ridge
from osr.errors import InputError

Ridge = float | Literal["auto"]

# A variance below the square of this share of the mean is rounding: float32 features differ by more.
_CONSTANT = 1e-12


@dataclass(kw_only=True, eq=False)
class _Gaussian(Detector):
    """What both have of the training images: moments of the classes, and a sample for `ridge: auto`."""

    needs_fit: ClassVar[bool] = True
    ridge: Ridge
    normalize: bool = False

    def _gather(self, images: Images) -> dict[str, Part]:
        images = replace(images, unit=self.normalize)
        sample = {"sample": Sample.of(images, NUM_LEFT_OUT)} if self.ridge == "auto" else {}
        return {"moments": Moments.of_classes(images), **sample}


class Mahalanobis(_Gaussian):
    """min over classes of (f - m_c)' P (f - m_c), the squared Mahalanobis distance. Lee et al. 2018.

    P is the inverse of the covariance around the class means plus `ridge` times its mean variance on the
    diagonal. The published pseudo-inverse would ignore a feature that never varies in training; here a test
    image that moves in it is far.

    Args:
        ridge: share of the mean variance added to each variance, above 0; auto: the one under which training
            images that are left out of the fit are most likely (`held_out_ridge`), small for many images and
            large for few, but at most 1 / N for a feature that is constant in all N of them.
        normalize: features are divided by their length first, in training and in test: MDS++ (Müller and
            Hein 2025).

    `fit` refuses a class without training images, and features that do not vary within the classes.
    """

    name: ClassVar[str] = "mahalanobis"

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        covariances = _Covariances.of(found, self.name)
        return _own_gaussians(covariances, _Added.of(self.ridge, found, covariances, self.name), self.name)

    def _score(self, batch: Batch) -> Tensor:
        batch = replace(batch, unit=self.normalize)
        return rounded(_to_nearest(batch.features.double() - self._state["centre"], self._state))


class Rmds(_Gaussian):
    """Relative: the score of `Mahalanobis` minus that of one Gaussian for all classes. Ren et al. 2021.

    Both covariances get the same addition, `ridge` times the mean variance within the classes. What no
    training image shows then counts the same in both and cancels, where two additions would leave a multiple
    of it, which for few images outweighs the rest. Only for a feature that is constant in training is it the
    share of each covariance's own mean variance, so that an image that moves there is far.

    Args:
        ridge: as in `Mahalanobis`.
        normalize: as in `Mahalanobis`: RMDS++.

    `fit` refuses a class without training images, and features that do not vary within the classes.
    """

    name: ClassVar[str] = "rmds"

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        covariances = _Covariances.of(found, self.name)
        added = _Added.of(self.ridge, found, covariances, self.name)
        free = _whitener(covariances.within + covariances.between, covariances.centre, added, self.name)
        return {**_own_gaussians(covariances, added, self.name), "class_free_whitener": free}

    def _score(self, batch: Batch) -> Tensor:
        batch = replace(batch, unit=self.normalize)
        centred = batch.features.double() - self._state["centre"]
        free = lengths(times_triangle(centred, self._state["class_free_whitener"])).square_()
        return rounded(_to_nearest(centred, self._state) - free)


class _Covariances(NamedTuple):
    """Float64: mean (D,), class means (K, D), two covariances (D, D)."""

    centre: Tensor
    means: Tensor
    within: Tensor
    between: Tensor

    @classmethod
    def of(cls, found: Gathered, detector: str) -> _Covariances:
        moments: Moments = found["moments"]
        refuse_few(moments.counts, 1, detector, correct_only=False)
        share = moments.counts.double() / found.count
        centre = share @ moments.means
        spread = (moments.means - centre) * share.sqrt()[:, None]
        covariances = cls(centre, moments.means, moments.covariance, spread.T @ spread)
        if not covariances.variance > 0:
            raise InputError(
                f"{detector} needs training features that vary within the classes; these are constant, as "
                f"they are with one image of each class: give more images, or leave {detector} out of "
                "detectors.enabled."
            )
        return covariances

    @property
    def variance(self) -> float:
        """The mean variance of a feature within the classes."""
        return float(self.within.diagonal().mean())


class _Added(NamedTuple):
    """What the diagonals get: an amount, and for constant features a share of the mean variance."""

    ridge: float
    amount: float
    constant_share: float

    @classmethod
    def of(cls, ridge: Ridge, found: Gathered, covariances: _Covariances, detector: str) -> _Added:
        """The chosen ridge; what N images do not show at all happens in at most about one of N."""
        if ridge != "auto":
            return cls(ridge, ridge * covariances.variance, ridge)
        chosen = held_out_ridge(found["sample"], found["moments"], detector)
        return cls(chosen, chosen * covariances.variance, min(chosen, 1 / found.count))


def _own_gaussians(covariances: _Covariances, added: _Added, detector: str) -> dict[str, Tensor]:
    """What `_to_nearest` needs; float64, or a small difference of two long whitened vectors is lost."""
    whitener = _whitener(covariances.within, covariances.centre, added, detector)
    means = (covariances.means - covariances.centre) @ whitener
    directions, offsets = contrasts(means)
    return {
        "centre": covariances.centre,
        "ridge": covariances.centre.new_tensor([added.ridge]),
        "whitener": whitener,
        "means": means,
        "directions": directions,
        "offsets": offsets,
    }


def _whitener(covariance: Tensor, centre: Tensor, added: _Added, detector: str) -> Tensor:
    """(D, D) float64, upper triangular A with A A' the inverse of the covariance plus what is added."""
    variances = covariance.diagonal()
    constant = variances <= (_CONSTANT * centre).square()
    diagonal = torch.where(constant, added.constant_share * variances.mean(), added.amount)
    factor, failed = torch.linalg.cholesky_ex(covariance + diagonal.diag())
    if failed:
        raise InputError(
            f"detectors.{detector}.ridge is {added.ridge:g}, too small for the covariance of these training "
            "features to be inverted in float64: set it to auto, or to 1e-6 or more."
        )
    identity = torch.eye(len(covariance), dtype=torch.float64, device=covariance.device)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse.T.contiguous()


def _to_nearest(centred: Tensor, state: dict[str, Tensor]) -> Tensor:
    """(n,) float64, squared Mahalanobis distance to the nearest mean, of features minus their centre."""
    values = times_triangle(centred, state["whitener"])
    rows = nearest(values, state["directions"], state["offsets"])
    return lengths(state["means"].index_select(0, rows).sub_(values)).square_()
