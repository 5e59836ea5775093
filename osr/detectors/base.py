"""What every detector shares: fit on known images, score in chunks, one file. Higher = more unknown."""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from osr.detectors.selection import argmax
from osr.errors import InputError
from osr.outputs import BACKGROUND, UNKNOWN, Outputs

Space = Literal["features", "logits"]

# Bytes of features and logits that are worked on at once: about what the caches hold on a CPU, and large
# enough on an accelerator to keep it busy.
CHUNK_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}


class NotFittedError(RuntimeError):
    """`score` or `save` was called before `fit`."""


@dataclass(frozen=True)
class Batch:
    """A bounded chunk of images on one device, converted to tensors only when read.

    Args:
        outputs: where the rows come from.
        rows: the consecutive rows of this chunk.
        keep: (rows,) bool, which of them count; None means all.
        device: where the tensors are put.
    """

    outputs: Outputs
    rows: slice
    keep: NDArray[np.bool_] | None
    device: torch.device

    @cached_property
    def logits(self) -> Tensor:
        """(n, K) float32."""
        return self._tensor(self.outputs.logits).float()

    @cached_property
    def features(self) -> Tensor:
        """(n, D) float32."""
        return self._tensor(self.outputs.features).float()

    @cached_property
    def extra_logits(self) -> Tensor:
        """(n, E) float32 of the extra classes; E may be 0."""
        return self._tensor(self.outputs.extra_logits).float()

    @cached_property
    def odin(self) -> Tensor:
        """(n, 1) float64, or (n, 0) where it was not asked for."""
        return self._tensor(self.outputs.odin)

    @cached_property
    def labels(self) -> Tensor:
        """(n,) int64."""
        return self._tensor(self.outputs.labels).long()

    @cached_property
    def predictions(self) -> Tensor:
        """(n,) int64, the known class with the largest logit."""
        return argmax(self.logits)

    @cached_property
    def weight(self) -> Tensor:
        """(K, D) float32 of the head."""
        return as_tensor(self.outputs.weight, self.device).float()

    @cached_property
    def bias(self) -> Tensor:
        """(K,) float32 of the head."""
        return as_tensor(self.outputs.bias, self.device).float()

    def space(self, name: Space) -> Tensor:
        """The features or the logits."""
        return self.features if name == "features" else self.logits

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        chunk = array[self.rows]
        return as_tensor(chunk if self.keep is None else chunk[self.keep], self.device)


@dataclass(frozen=True)
class Images:
    """The images of an Outputs that count, in bounded chunks.

    Args:
        outputs: all images.
        keep: (N,) bool, which of them count; None means all.
        device: where the chunks are put.
    """

    outputs: Outputs
    keep: NDArray[np.bool_] | None
    device: torch.device

    def __len__(self) -> int:
        return len(self.outputs) if self.keep is None else int(np.count_nonzero(self.keep))

    @property
    def num_classes(self) -> int:
        """K, the number of known classes."""
        return self.outputs.num_classes

    @property
    def num_features(self) -> int:
        """D, the width of the features."""
        return int(self.outputs.features.shape[1])

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,) of the head, float64."""
        weight, bias = (
            as_tensor(array, self.device).double() for array in (self.outputs.weight, self.outputs.bias)
        )
        return weight, bias

    def batches(self, *, min_rows: int = 1) -> Iterator[Batch]:
        """The chunks, in order, of as many images as CHUNK_BYTES hold or of `min_rows`."""
        per_row = 4 * (self.num_classes + self.num_features)
        step = max(min_rows, CHUNK_BYTES.get(self.device.type, CHUNK_BYTES["cuda"]) // per_row)
        for start in range(0, len(self.outputs), step):
            rows = slice(start, min(start + step, len(self.outputs)))
            keep = None if self.keep is None else self.keep[rows]
            if keep is None or keep.any():
                yield Batch(self.outputs, rows, None if keep is None or keep.all() else keep, self.device)


@dataclass(kw_only=True, eq=False)
class Detector(ABC):
    """Scores how unknown an image is from its logits and features alone; holds arrays, never a network.

    A subclass is a dataclass whose fields are its settings. It gives `_score` and, if it learns from the
    training images, `_fit`. Its arrays live in `_state`.
    """

    name: ClassVar[str]
    needs_fit: ClassVar[bool] = False

    _state: dict[str, Tensor] = field(init=False, repr=False, default_factory=dict)
    _shape: tuple[int, int] | None = field(init=False, repr=False, default=None)
    _device: torch.device = field(init=False, repr=False, default=torch.device("cpu"))

    def fit(self, train: Outputs) -> Self:
        """Learn what known images look like.

        Args:
            train: outputs of the training images; rows of background images (label -2) are passed over.

        Returns:
            The detector itself.

        Raises:
            InputError: `train` holds unknown images, no known image, or too little for this detector.
        """
        if bool((train.labels == UNKNOWN).any()):
            raise InputError(
                f"{self.name} was given images of unknown classes to fit on; it may see known classes only."
            )
        known = np.asarray(train.labels != BACKGROUND)
        if not known.any():
            raise InputError(f"{self.name} needs images of known classes to fit on; there is none.")
        images = Images(train, None if known.all() else known, self._device)
        self._state = self._fit(images)
        self._shape = images.num_classes, images.num_features
        return self

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

    def to(self, device: torch.device | str) -> Self:
        """Compute on `device` from now on; the default is the CPU. Returns the detector itself."""
        self._device = torch.device(device)
        self._state = {key: value.to(self._device) for key, value in self._state.items()}
        return self

    def settings(self) -> dict[str, Any]:
        """The settings the detector was made with."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.init}

    def save(self, path: Path) -> None:
        """Write settings and fitted arrays as one safetensors file; equal detectors give equal bytes.

        Raises:
            NotFittedError: there is nothing to write yet.
        """
        if self.needs_fit and not self._state:
            raise NotFittedError(f"{self.name} is not fitted: call fit before save.")
        content = {"detector": self.name, "settings": self.settings(), "shape": self._shape}
        partial = path.with_name(f"{path.name}.partial")
        # One metadata key: safetensors writes several in an order that differs between processes.
        metadata = {"osr": json.dumps(content, sort_keys=True)}
        arrays = {key: value.cpu().contiguous() for key, value in self._state.items()}
        partial.write_bytes(save(arrays, metadata))  # save_file would make a file only its owner can read
        partial.replace(path)

    def restore(self, state: dict[str, Tensor], shape: tuple[int, int] | None) -> Self:
        """Take over what an earlier `fit` learned, as `load_detector` does. Returns the detector itself."""
        self._state, self._shape = state, shape
        return self

    def _check_usable(self, outputs: Outputs) -> None:
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

    def _fit(self, images: Images) -> dict[str, Tensor]:  # noqa: ARG002
        """What to remember of the known training images; nothing by default."""
        return {}

    @abstractmethod
    def _score(self, batch: Batch) -> Tensor:
        """(n,) scores of a chunk, any float dtype, higher = more unknown."""


def as_tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array's memory as a tensor, without a copy on the CPU; detectors never write to it."""
    if array.flags.writeable:
        return torch.from_numpy(array).to(device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ", category=UserWarning)
        return torch.from_numpy(array).to(device)
