"""Several detectors as one: the mean of their scores on one scale. Higher = more unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.tracing import is_traced
from osr.errors import InputError

_CONSTANT = 1e-6  # scores that differ by a smaller share than this are equal but for float32 rounding


@dataclass(kw_only=True, eq=False)
class Ensemble(Detector):
    """Mean over the members of (s - m) / d, m the mean of training knowns' scores and d their deviation.

    The scale comes from known images alone, so that an image's score does not depend on other test images.
    Ranks among the training images would: an image beyond all of them tells no more how far it is, and to a
    member that fits the training images closely most new images are beyond them. Where all training images
    have one score, d is 1.

    Args:
        members: at least two detectors, which need not be enabled themselves.

    `fit` refuses what one of the members refuses.
    """

    name: ClassVar[str] = "ensemble"
    needs_fit: ClassVar[bool] = True
    needs_all: ClassVar[str] = "brings its members to one scale by the scores of all training images"
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
            del own["centre_and_deviation"]
            member.restore(own, shape)
        return super().restore(state, shape)

    def _fit_beside(self, images: Images, beside: Sequence[Detector]) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for member in self.members:
            learned = member._fit_beside(images, beside)
            member.restore(learned, (images.num_classes, images.num_features))
            scores = torch.cat([_checked(member, batch) for batch in images.batches()])
            state |= {f"{member.name}.{key}": value for key, value in learned.items()}
            deviation = scores.std(correction=0)
            differ = deviation > _CONSTANT * scores.abs().max()
            state[f"{member.name}.centre_and_deviation"] = torch.stack(
                [scores.mean(), torch.where(differ, deviation, 1)]
            )
        return state

    def _score(self, batch: Batch) -> Tensor:
        scaled = []
        for member in self.members:
            centre, deviation = self._state[f"{member.name}.centre_and_deviation"]
            scaled.append((_checked(member, batch) - centre) / deviation)
        return torch.stack(scaled).mean(0)


def _checked(member: Detector, batch: Batch) -> Tensor:
    """Scores (n,) float64 of one member, which the error names."""
    scores = member._score(batch).double()
    if not is_traced() and not bool(scores.isfinite().all()):
        raise InputError(
            f"ensemble: {member.name} gives a score that is not finite; the features or logits are too large."
        )
    return scores
