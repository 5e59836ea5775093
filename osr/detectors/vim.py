"""Virtual-logit matching: what the principal directions of the features leave out. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.distances import lengths, rounded
from osr.detectors.moments import scatter
from osr.detectors.softmax import log_sum_exp
from osr.errors import InputError

# A residual this small beside the features is rounding.
_MIN_RESIDUAL = 1e-5


@dataclass(kw_only=True, eq=False)
class Vim(Detector):
    """alpha |residual of f - u| - logsumexp(z). Wang et al. 2022.

    u = -pinv(W) b is the origin where all logits are 0, as nearly as can be. The residual is what is left of
    f - u beside the `dimension` principal directions of the training features, and alpha makes its mean over
    the training images equal to that of the largest logit.

    Args:
        dimension: principal directions; auto: `default_dimension`.

    A mean largest logit that is not above 0 would turn the residual's sign. The mean logit is then first
    taken off all logits and biases, which changes no softmax: any such offset gives the same order of images.

    `fit` refuses as many or fewer features than `dimension`, training features without residual (as many or
    fewer images than `dimension`), and logits that are not above 0 and all equal.
    """

    name: ClassVar[str] = "vim"
    needs_fit: ClassVar[bool] = True
    dimension: int | Literal["auto"]

    def _fit(self, images: Images) -> dict[str, Tensor]:
        dimension = self._dimension(images.num_features)
        weight, bias = images.head
        largest, offset = _largest_logit(images)
        # Rows of W that sum to 0 leave a singular value that is 0 but for float32 rounding: cut it off.
        cut_off = max(weight.shape) * torch.finfo(torch.float32).eps
        origin = -torch.linalg.pinv(weight, rtol=cut_off) @ (bias - offset)
        _, directions = torch.linalg.eigh(scatter(images, origin))
        minor = directions[:, : images.num_features - dimension].contiguous()
        residual = extent = 0.0
        for batch in images.batches():
            centred = batch.features.double() - origin
            residual += float(lengths(centred @ minor).sum())
            extent += float(lengths(centred).sum())
        if residual <= _MIN_RESIDUAL * extent:
            raise InputError(
                f"vim finds no residual: the training features lie in {dimension} directions. Set "
                "detectors.vim.dimension lower, or give more training images."
            )
        alpha = origin.new_tensor([largest * len(images) / residual])
        return {"origin": origin, "minor": minor, "alpha": alpha}

    def _score(self, batch: Batch) -> Tensor:
        residual = lengths((batch.features.double() - self._state["origin"]) @ self._state["minor"])
        return self._state["alpha"] * rounded(residual) - log_sum_exp(batch.logits)

    def _dimension(self, num_features: int) -> int:
        if self.dimension == "auto":
            return default_dimension(num_features)
        if num_features <= self.dimension:
            raise InputError(
                f"vim keeps {self.dimension} principal directions (detectors.vim.dimension), but the "
                f"network has only {num_features} features: nothing would be left. Set it below "
                f"{num_features}, or to auto."
            )
        return self.dimension


def _largest_logit(images: Images) -> tuple[float, float]:
    """Mean over the images of the largest logit, above 0, and what has been taken off all logits for that."""
    largest = total = 0.0
    for batch in images.batches():
        largest += float(batch.logits.amax(1).double().sum()) / len(images)
        total += float(batch.logits.double().sum()) / (len(images) * images.num_classes)
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
