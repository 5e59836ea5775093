"""The images of stored outputs in bounded chunks, as tensors that are made only when they are read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from osr.detectors.selection import argmax
from osr.detectors.tracing import Traced
from osr.outputs import Outputs
from osr.settings.base import Space

# Bytes of features and logits that are worked on at once: about what the caches hold on a CPU, and large
# enough on an accelerator to keep it busy.
CHUNK_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}
_SMALLEST = float(torch.finfo(torch.float64).tiny)


@dataclass(frozen=True)
class Batch:
    """A bounded chunk of images on one device, converted to tensors only when read.

    Args:
        outputs: where the rows come from.
        rows: the consecutive rows of this chunk.
        keep: (rows,) bool, which of them count; None means all.
        device: where the tensors are put.
        unit: whether features are divided by their length; a vector of zeros stays one.
    """

    outputs: Outputs | Traced
    rows: slice
    keep: NDArray[np.bool_] | None
    device: torch.device
    unit: bool = False

    @cached_property
    def logits(self) -> Tensor:
        """(n, K) float32."""
        return self._tensor(self.outputs.logits).float()

    @cached_property
    def features(self) -> Tensor:
        """(n, D) float32; float64 if they are divided by their length, which float32 could not hold."""
        features = self._tensor(self.outputs.features).float()
        return normalize(features.double(), eps=_SMALLEST) if self.unit else features

    @cached_property
    def extra_logits(self) -> Tensor:
        """(n, E) float32 of the extra classes; E may be 0."""
        return self._tensor(self.outputs.extra_logits).float()

    @cached_property
    def odin(self) -> Tensor:
        """(n, 1) float64, or (n, 0) where it was not asked for."""
        return self._tensor(self.outputs.odin)

    @cached_property
    def rotation(self) -> Tensor:
        """(n, 1) float64, or (n, 0) where it was not asked for."""
        return self._tensor(self.outputs.rotation)

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

    def _tensor(self, array: NDArray[Any] | Tensor) -> Tensor:
        if isinstance(array, Tensor):
            return array
        chunk = array[self.rows]
        return as_tensor(chunk if self.keep is None else chunk[self.keep], self.device)


@dataclass(frozen=True)
class Images:
    """The images of an Outputs that count, in bounded chunks.

    Args:
        outputs: all images.
        keep: (N,) bool, which of them count; None means all.
        device: where the chunks are put.
        unit: whether features are divided by their length.
    """

    outputs: Outputs
    keep: NDArray[np.bool_] | None
    device: torch.device
    unit: bool = False

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
    def rows(self) -> NDArray[np.int64]:
        """(n,) int64, which rows of the outputs count, rising."""
        return np.arange(len(self.outputs)) if self.keep is None else np.flatnonzero(self.keep)

    def only(self, rows: NDArray[np.int64]) -> Images:
        """Those of the outputs' rows alone, in their order."""
        keep = np.zeros(len(self.outputs), dtype=np.bool_)
        keep[rows] = True
        return replace(self, keep=keep)

    def batches(self, *, min_rows: int = 1) -> Iterator[Batch]:
        """The chunks, in order, of as many images as CHUNK_BYTES hold or of `min_rows`."""
        per_row = 4 * (self.num_classes + self.num_features)
        step = max(min_rows, CHUNK_BYTES.get(self.device.type, CHUNK_BYTES["cuda"]) // per_row)
        for start in range(0, len(self.outputs), step):
            rows = slice(start, min(start + step, len(self.outputs)))
            keep = None if self.keep is None else self.keep[rows]
            if keep is None or keep.any():
                kept = None if keep is None or keep.all() else keep
                yield Batch(self.outputs, rows, kept, self.device, self.unit)


def as_tensor(array: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """The array as a tensor that nobody writes to; on the CPU without a copy if it is contiguous."""
    if isinstance(array, Tensor):
        return array
    array = np.ascontiguousarray(array)  # torch knows no negative strides
    if array.flags.writeable:
        return torch.from_numpy(array).to(device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ", category=UserWarning)
        return torch.from_numpy(array).to(device)
