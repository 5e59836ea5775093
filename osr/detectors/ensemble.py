"""Several detectors as one: the mean of their ranks among the training images. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.tracing import is_traced
from osr.errors import InputError


@dataclass(kw_only=True, eq=False)
class Ensemble(Detector):
    """Mean over the members of F(s), F(s) = share of training knowns below s plus half of those equal to s.

    Rank averaging, made independent of the other test images: the ranks are those among the stored scores of
    the training knowns. An image beyond all of them has rank 1, so that two such images differ only where
    another member tells them apart. 0..1.

    Args:
        members: at least two detectors, which need not be enabled themselves.

    `fit` refuses what one of the members refuses. It keeps 8 N bytes for each member.
    """

    name: ClassVar[str] = "ensemble"
    needs_fit: ClassVar[bool] = True
    members: tuple[Detector, ...]

    def to(self, device: torch.device | str) -> Self:
        """Compute on `device` from now on, members included. Returns the detector itself."""
        for member in self.members:
            member.to(device)
        return super().to(device)

    def settings(self) -> dict[str, Any]:
        """The settings of each member, by its name."""
        return {"members": {member.name: member.settings() for member in self.members}}

    def restore(self, state: dict[str, Tensor], shape: tuple[int, int] | None) -> Self:
        """Take over what an earlier `fit` learned, members included. Returns the detector itself."""
        for member in self.members:
            prefix = f"{member.name}."
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            del own["reference"]
            member.restore(own, shape)
        return super().restore(state, shape)

    def _fit(self, images: Images) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for member in self.members:
            learned = member._fit(images)
            member.restore(learned, (images.num_classes, images.num_features))
            scores = torch.cat([_checked(member, batch) for batch in images.batches()])
            state |= {f"{member.name}.{key}": value for key, value in learned.items()}
            state[f"{member.name}.reference"] = scores.sort().values
        return state

    def _score(self, batch: Batch) -> Tensor:
        ranks = [
            _rank(_checked(member, batch), self._state[f"{member.name}.reference"]) for member in self.members
        ]
        return torch.stack(ranks).mean(0)


def _checked(member: Detector, batch: Batch) -> Tensor:
    """Scores (n,) float64 of one member; a rank would hide what is no number."""
    scores = member._score(batch).double()
    if not is_traced() and not bool(scores.isfinite().all()):
        raise InputError(
            f"ensemble: {member.name} gives a score that is not finite; the features or logits are too large."
        )
    return scores


def _rank(scores: Tensor, reference: Tensor) -> Tensor:
    """Share of the rising reference (N,) below each score, those equal to it counted half: (n,) float64."""
    if is_traced():  # ONNX has no search
        below, above = (scores[:, None] > reference).sum(1), (scores[:, None] < reference).sum(1)
        return (below + len(reference) - above).double() / (2 * len(reference))
    scores = scores.contiguous()
    below = torch.searchsorted(reference, scores)
    not_above = torch.searchsorted(reference, scores, right=True)
    return (below + not_above).double() / (2 * len(reference))
