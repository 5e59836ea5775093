"""How much of an image lies in the principal directions of training. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.distances import lengths, rounded
from osr.detectors.gathered import Gathered, Part
from osr.detectors.moments import Moments
from osr.errors import InputError

# Of the variance of standardised features, that `auto` keeps: the rule of the paper.
_EXPLAINED = 0.9
# A variance below the square of this share of the mean is rounding: float32 features differ by more.
_CONSTANT = 1e-12


@dataclass(kw_only=True, eq=False)
class Neco(Detector):
    """-|P g| / |g|, g the standardised features, P the first principal directions. Ammar et al. 2024.

    g = (f - m) / s with mean and standard deviation of each training feature; s of a constant one counts as
    1. P has the first `dimension` principal directions of g in training. An image at the mean scores 0.

    Args:
        dimension: principal directions; auto: as few as hold 90 % of the variance, but not all. Published:
            100 of 768.
        by_maxlogit: whether the share is multiplied by the largest logit, as published for transformers but
            not for ResNets. A negative largest logit turns the order round.

    `fit` refuses features that are constant, and as many or fewer features than `dimension`.
    """

    name: ClassVar[str] = "neco"
    needs_fit: ClassVar[bool] = True
    dimension: int | Literal["auto"]
    by_maxlogit: bool

    def _gather(self, images: Images) -> dict[str, Part]:
        return {"moments": Moments.of_all(images)}

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        num_features = found.weight.shape[1]
        if self.dimension != "auto" and num_features <= self.dimension:
            raise InputError(
                f"neco keeps {self.dimension} principal directions (detectors.neco.dimension), but the "
                f"network has only {num_features} features: nothing would be left out. Set it below "
                f"{num_features}, or to auto."
            )
        mean, covariance = found["moments"].means[0], found["moments"].covariance
        variance = covariance.diagonal()
        constant = variance <= (_CONSTANT * mean).square()
        if bool(constant.all()):
            raise InputError(
                "neco needs training features that vary; these are constant: give more images, or leave neco "
                "out of detectors.enabled."
            )
        factors = torch.where(constant, 1.0, variance).rsqrt()
        spectrum, directions = torch.linalg.eigh(covariance * factors * factors[:, None])
        kept = self._kept(spectrum.flip(0).clamp_min(0))
        return {"mean": mean, "factors": factors, "major": directions[:, len(mean) - kept :].contiguous()}

    def _score(self, batch: Batch) -> Tensor:
        standard = (batch.features.double() - self._state["mean"]) * self._state["factors"]
        size = lengths(standard)
        share = lengths(standard @ self._state["major"]) / torch.where(size == 0, 1.0, size)
        return -rounded(share * batch.logits.amax(1).double() if self.by_maxlogit else share)

    def _kept(self, spectrum: Tensor) -> int:
        """How many directions, of the falling variances (D,) float64."""
        if self.dimension != "auto":
            return self.dimension
        explained = spectrum.cumsum(0) / spectrum.sum()
        return max(1, min(int((explained < _EXPLAINED).sum()) + 1, len(spectrum) - 1))
