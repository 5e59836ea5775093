"""Virtual-logit matching: what the principal directions of the features leave out. Higher = more unknown."""

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
from osr.detectors.sample import Sample
from osr.detectors.softmax import log_sum_exp
from osr.errors import InputError

# A residual this small beside the features is rounding.
_MIN_RESIDUAL = 1e-5
SAMPLE = 1 << 14  # training images at most whose residuals are taken
_ROWS = 2048  # of them that are float64 at once


@dataclass(kw_only=True, eq=False)
class Vim(Detector):
    """alpha |residual of f - u| - logsumexp(z). Wang et al. 2022.

    u = -pinv(W) b is the origin where all logits are 0, as nearly as can be. The residual is what is left of
    f - u beside the `dimension` principal directions of the training features, and alpha makes its mean over
    the training images (over 16,384 of them, drawn once and for all, where there are more: `Sample`) equal to
    that of the largest logit.

    Args:
        dimension: principal directions; auto: `default_dimension`, but at most half as many as training
            images, which would else leave next to no residual.

    A mean largest logit that is not above 0 would turn the residual's sign. The mean logit is then first
    taken off all logits and biases, which changes no softmax: any such offset gives the same order of images.

    `fit` refuses as many or fewer features than `dimension`, training features without residual (as many or
    fewer images than a `dimension` that is given), and logits that are not above 0 and all equal.
    """

    name: ClassVar[str] = "vim"
    needs_fit: ClassVar[bool] = True
    dimension: int | Literal["auto"]

    def _gather(self, images: Images) -> dict[str, Part]:
        largest = total = torch.zeros((), dtype=torch.float64, device=images.device)
        for batch in images.batches():
            largest = largest + batch.logits.amax(1).double().sum()
            total = total + batch.logits.double().sum()
        return {**_summary(images), "largest": largest, "total": total}

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        largest, offset = _largest_logit(found)
        space, residual = _null_space(found, self.dimension, offset, self.name)
        return {**space, "alpha": residual.new_tensor([largest]) / residual}

    def _score(self, batch: Batch) -> Tensor:
        residual = rounded(_residual(batch.features, self._state))
        # Float64: where the two are nearly equal, float32 exponentials are all that is left of the score.
        return self._state["alpha"] * residual - log_sum_exp(batch.logits.double())


@dataclass(kw_only=True, eq=False)
class Residual(Detector):
    """|residual of f - u|, `Vim` without the logits. Wang et al. 2022.

    u and the residual are those of `Vim`, for logits as they are.

    Args:
        dimension: as in `Vim`.

    `fit` refuses as many or fewer features than `dimension`, and training features without residual.
    """

    name: ClassVar[str] = "residual"
    needs_fit: ClassVar[bool] = True
    dimension: int | Literal["auto"]

    def _gather(self, images: Images) -> dict[str, Part]:
        return _summary(images)

    def _learn(self, found: Gathered) -> dict[str, Tensor]:
        return _null_space(found, self.dimension, 0.0, self.name)[0]

    def _score(self, batch: Batch) -> Tensor:
        return rounded(_residual(batch.features, self._state))


def _summary(images: Images) -> dict[str, Part]:
    return {"moments": Moments.of_all(images), "sample": Sample.of(images, SAMPLE)}


def _null_space(
    found: Gathered, dimension: int | Literal["auto"], offset: float, detector: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Origin (D,) and minor directions (D, D - dimension), float64, and the mean training residual, ().

    Args:
        found: what `_summary` gave.
        dimension: principal directions that are left out.
        offset: that is first taken off all biases.
        detector: who asks, for the error.
    """
    kept = _dimension(dimension, found, detector)
    weight, bias = found.head
    # Rows of W that sum to 0 leave a singular value that is 0 but for float32 rounding: cut it off.
    cut_off = max(weight.shape) * torch.finfo(torch.float32).eps
    origin = -torch.linalg.pinv(weight, rtol=cut_off) @ (bias - offset)
    _, directions = torch.linalg.eigh(found["moments"].scatter_around(origin))
    space = {"origin": origin, "minor": directions[:, : len(origin) - kept].contiguous()}
    features, residual, extent = found["sample"].features, origin.new_zeros(()), origin.new_zeros(())
    for part in torch.split(features, _ROWS):
        residual += _residual(part, space).sum()
        extent += lengths(part.double() - origin).sum()
    if residual <= _MIN_RESIDUAL * extent:
        raise InputError(
            f"{detector} finds no residual: the training features lie in {kept} directions. Set "
            f"detectors.{detector}.dimension lower, or give more training images."
        )
    return space, residual / len(features)


def _residual(features: Tensor, space: dict[str, Tensor]) -> Tensor:
    """(n,) float64, the length of what the principal directions leave of f - u."""
    return lengths((features.double() - space["origin"]) @ space["minor"])


def _dimension(dimension: int | Literal["auto"], found: Gathered, detector: str) -> int:
    num_features = found.weight.shape[1]
    if dimension == "auto":
        return min(default_dimension(num_features), max(1, found.count // 2))
    if num_features <= dimension:
        raise InputError(
            f"{detector} keeps {dimension} principal directions (detectors.{detector}.dimension), but the "
            f"network has only {num_features} features: nothing would be left. Set it below "
            f"{num_features}, or to auto."
        )
    return dimension


def _largest_logit(found: Gathered) -> tuple[float, float]:
    """Mean over the images of the largest logit, above 0, and what has been taken off all logits for that."""
    largest = float(found["largest"]) / found.count
    total = float(found["total"]) / (found.count * len(found.weight))
    if largest > 0:
        return largest, 0.0
    if not largest - total > _MIN_RESIDUAL * abs(total):
        raise InputError(
            "vim scales its residual to the largest logits of the training images, but these are all "
            f"{largest:g}, like the other logits: leave vim out of detectors.enabled."
        )
    return largest - total, total


def default_dimension(num_features: int) -> int:
    """1000 from 2048 features on and 512 from 768 on, as published; half of fewer, which nobody published."""
    return 1000 if num_features >= 2048 else 512 if num_features >= 768 else num_features // 2
