"""Virtual-logit matching: what the principal directions of the features leave out. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.distances import lengths
from osr.detectors.moments import scatter
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

    `fit` refuses as many or fewer features than `dimension`, training features without residual (as many or
    fewer images than `dimension`), and a negative mean of the largest logit, which would turn the residual's
    sign.
    """

    name: ClassVar[str] = "vim"
    needs_fit: ClassVar[bool] = True
    dimension: int | Literal["auto"]

    def _fit(self, images: Images) -> dict[str, Tensor]:
        dimension = self._dimension(images.num_features)
        weight, bias = images.head
        # Rows of W that sum to 0 leave a singular value that is 0 but for float32 rounding: cut it off.
        cut_off = max(weight.shape) * torch.finfo(torch.float32).eps
        origin = -torch.linalg.pinv(weight, rtol=cut_off) @ bias
        _, directions = torch.linalg.eigh(scatter(images, origin))
        origin, minor = origin.float(), directions[:, : images.num_features - dimension].float().contiguous()
        residual = largest = extent = 0.0
        for batch in images.batches():
            centred = batch.features - origin
            residual += float(lengths(centred @ minor).double().sum())
            extent += float(lengths(centred).double().sum())
            largest += float(batch.logits.amax(1).double().sum())
        if residual <= _MIN_RESIDUAL * extent:
            raise InputError(
                f"vim finds no residual: the training features lie in {dimension} directions. Set "
                "detectors.vim.dimension lower, or give more training images."
            )
        if largest <= 0:
            raise InputError(
                "vim scales its residual to the mean of the largest logit over the training images, which "
                f"must be above 0 but is {largest / len(images):g}: leave vim out of detectors.enabled."
            )
        alpha = torch.tensor([largest / residual], dtype=torch.float64, device=images.device)
        return {"origin": origin, "minor": minor, "alpha": alpha}

    def _score(self, batch: Batch) -> Tensor:
        residual = lengths((batch.features - self._state["origin"]) @ self._state["minor"])
        return self._state["alpha"] * residual.double() - batch.logits.logsumexp(1)

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


def default_dimension(num_features: int) -> int:
    """1000 from 2048 features on and 512 from 768 on, as published; half of fewer, which nobody published."""
    return 1000 if num_features >= 2048 else 512 if num_features >= 768 else num_features // 2
