"""What every detector shares: fit on known images, score in chunks, one file. Higher = more unknown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osr.detectors.chunks import Batch, Images
from osr.detectors.gathered import Gathered, Part
from osr.detectors.tracing import Traced
from osr.errors import InputError
from osr.outputs import BACKGROUND, UNKNOWN, Outputs
from osr.stored.arrays import write_tensors
from osr.stored.origin import Origin

FORMAT = 3  # of saved detectors: a number more whenever what fit remembers means something else


class NotFittedError(RuntimeError):
    """`score` or `save` was called before `fit`."""


@dataclass(kw_only=True, eq=False)
class Detector(ABC):
    """Scores how unknown an image is from its logits and features alone; holds arrays, never a network.

    A subclass with settings is a dataclass whose fields they are. It gives `_score` and, if it learns from
    the training images, `_gather`, what some of them leave behind, and `_learn`, what follows from that of
    all. One that no sums, counts or tails are enough for gives `_fit` instead, and the reason as `needs_all`.
    Its arrays live in `_state`. A class of the user's own says no `name`: that is its `module:Class`.
    `made_from` names the weights whose outputs it was fitted on, `digest` the file that holds it, if any.
    """

    name: ClassVar[str]
    needs_fit: ClassVar[bool] = False
    needs_all: ClassVar[str] = ""

    made_from: Origin = field(init=False, repr=False, default=Origin())
    digest: str | None = field(init=False, repr=False, default=None)

    _state: dict[str, Tensor] = field(init=False, repr=False, default_factory=dict)
    _shape: tuple[int, int] | None = field(init=False, repr=False, default=None)
    _device: torch.device = field(init=False, repr=False, default=torch.device("cpu"))
    _gathered: Gathered | None = field(init=False, repr=False, default=None)

    def __init_subclass__(cls, **options: Any) -> None:
        """A class that says no name is called `module:Class`, as params.yaml names it."""
        super().__init_subclass__(**options)
        if "name" not in vars(cls):
            cls.name = f"{cls.__module__}:{cls.__qualname__}"

    def fit(self, train: Outputs, *, beside: Iterable[Detector] = ()) -> Self:
        """Learn what known images look like.

        Args:
            train: outputs of the training images; rows of background images (label -2) are passed over.
            beside: detectors fitted on the same; what they have learned is taken over, not worked out again.

        Returns:
            The detector itself.

        Raises:
            InputError: `train` holds unknown images, no known image, or too little for this detector.
        """
        images = self._known(train)
        if not len(images):
            raise self._none_known()
        self._state, self._gathered = self._fit_beside(images, tuple(beside)), None
        self._shape = images.num_classes, images.num_features
        self.made_from, self.digest = train.made_from, None
        return self

    def partial_fit(self, shard: Outputs) -> Self:
        """Learn from some of the training images; shards may come in any order, one after the other.

        What `merge` and further calls add up stays in the detector, beside what `score` and `save` make of it
        when they are called. Any division into shards gives what `fit` gives of all images, but for rounding.

        Args:
            shard: outputs of some training images, as for `fit`; a shard may lack classes, or be empty.

        Returns:
            The detector itself.

        Raises:
            InputError: the detector needs all training images at once, and says why; it was fitted as a whole
                before; `shard` holds unknown images, or is of another network than those before.
        """
        self._refuse_shards()
        images = self._known(shard)
        return self._add(Gathered.of(images, self._gather(images)))

    def merge(self, other: Self) -> Self:
        """Learn what `other` has learned from its shards; it stays as it is.

        Args:
            other: a detector of the same settings, which has seen other shards, or none yet.

        Returns:
            The detector itself.

        Raises:
            InputError: see `partial_fit`; or the two are not of the same name and settings.
        """
        if type(other) is not type(self) or other.settings() != self.settings():
            raise InputError(
                f"{self.name} with {self.settings()} cannot be merged with {other.name} with "
                f"{other.settings()}: both must have the same settings."
            )
        self._refuse_shards()
        other._refuse_shards()
        return self if other._gathered is None else self._add(other._gathered.to(self._device))

    def score(self, outputs: Outputs) -> NDArray[np.float64]:
        """One score per image.

        Args:
            outputs: N images; their labels are not looked at.

        Returns:
            (N,) float64, finite, higher = more unknown; an image's score does not depend on the other images.

        Raises:
            NotFittedError: the detector learns from training images and has not yet.
            InputError: the outputs are those of another network, or a score is not finite.
        """
        self._check_usable(outputs)
        scores = np.empty(len(outputs), dtype=np.float64)
        for batch in Images(outputs, None, self._device).batches():
            scores[batch.rows] = self._score(batch).cpu().numpy()
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise InputError(
                f"{self.name} gives {scores[row]} for image {row}: its features or logits are too large."
            )
        return scores

    def score_traced(self, outputs: Traced) -> Tensor:
        """What `score` gives, (N,) float64, computed inside a graph that `torch.export` records.

        Nothing is refused there: a score that is not finite stays what it is.
        """
        self._finish()
        return self._score(Batch(outputs, slice(None), None, self._device)).double()

    def to(self, device: torch.device | str) -> Self:
        """Compute on `device` from now on; the default is the CPU. Returns the detector itself."""
        self._device = torch.device(device)
        self._state = {key: value.to(self._device) for key, value in self._state.items()}
        self._gathered = self._gathered and self._gathered.to(self._device)
        return self

    def settings(self) -> dict[str, Any]:
        """The settings the detector was made with."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.init}

    @property
    def size(self) -> int:
        """How many numbers the fitted detector holds."""
        self._finish()
        return sum(value.numel() for value in self._state.values())

    def save(self, path: Path) -> str:
        """Write settings and fitted arrays as one safetensors file; equal detectors give equal bytes.

        Returns:
            The digest of the file.

        Raises:
            NotFittedError: there is nothing to write yet.
        """
        self._finish()
        if self.needs_fit and not self._state:
            raise NotFittedError(f"{self.name} is not fitted: call fit before save.")
        content = {
            "format": FORMAT,
            "detector": self.name,
            "settings": self.settings(),
            "shape": self._shape,
        }
        self.digest = write_tensors(path, "detector", content, self.made_from, self._state)
        return self.digest

    def restore(self, state: dict[str, Tensor], shape: tuple[int, int] | None) -> Self:
        """Take over what an earlier `fit` learned, as `load_detector` does. Returns the detector itself."""
        self._state, self._shape, self._gathered = state, shape, None
        return self

    def _known(self, outputs: Outputs) -> Images:
        """The images of known classes, without those of the background."""
        if bool((outputs.labels == UNKNOWN).any()):
            raise InputError(
                f"{self.name} was given images of unknown classes to fit on; it may see known classes only."
            )
        known = np.asarray(outputs.labels != BACKGROUND)
        return Images(outputs, None if known.all() else known, self._device)

    def _none_known(self) -> InputError:
        return InputError(f"{self.name} needs images of known classes to fit on; there is none.")

    def _refuse_shards(self) -> None:
        if self.needs_all:
            raise InputError(
                f"{self.name} cannot be fitted in shards: it {self.needs_all}. Call fit with all of them."
            )
        if self._shape is not None and self._gathered is None:
            raise InputError(
                f"{self.name} was fitted as a whole or read from a file, which leaves nothing to add shards "
                "to: make a new detector and call partial_fit with each shard."
            )

    def _add(self, found: Gathered) -> Self:
        before = self._gathered
        self._gathered = found if before is None else before.merge(found, detector=self.name)
        num_classes, num_features = found.weight.shape
        self._shape, self._state = (num_classes, num_features), {}
        self.made_from, self.digest = self._gathered.made_from, None
        return self

    def _finish(self) -> None:
        """Learn from what was gathered since."""
        if self._gathered is None or self._state:
            return
        if self.needs_fit and not self._gathered.count:
            raise self._none_known()
        self._state = self._learn(self._gathered)

    def _check_usable(self, outputs: Outputs) -> None:
        self._finish()
        if self.needs_fit and not self._state:
            raise NotFittedError(
                f"{self.name} is not fitted: call fit with the outputs of the training images first."
            )
        shape = outputs.num_classes, outputs.features.shape[1]
        if self._shape not in (None, shape):
            raise InputError(
                f"{self.name} was fitted on (classes, features) = {self._shape}, but is asked to score "
                f"{shape}: both must come from one network."
            )
        fitted_on, given = self.made_from.weights, outputs.made_from.weights
        if None not in (fitted_on, given) and fitted_on != given:
            raise InputError(
                f"{self.name} was fitted on outputs of weights {fitted_on}, but is asked to score those of "
                f"weights {given}: both must come from one network."
            )

    def _fit_beside(self, images: Images, beside: Sequence[Detector]) -> dict[str, Tensor]:
        """What one of the same class and settings remembers of the same images, or else `_fit`."""
        for other in beside:
            if type(other) is type(self) and other.settings() == self.settings():
                return {key: value.to(self._device) for key, value in other._state.items()}
        return self._fit(images)

    def _fit(self, images: Images) -> dict[str, Tensor]:
        """What to remember of all known training images."""
        return self._learn(Gathered.of(images, self._gather(images)))

    def _gather(self, images: Images) -> dict[str, Part]:  # noqa: ARG002
        """What known training images, of which there may be none, leave behind; nothing by default."""
        return {}

    def _learn(self, found: Gathered) -> dict[str, Tensor]:  # noqa: ARG002
        """What to remember, given what all training images have left behind; nothing by default."""
        return {}

    @abstractmethod
    def _score(self, batch: Batch) -> Tensor:
        """(n,) scores of a chunk, any float dtype, higher = more unknown."""
