"""What shards of the training images leave behind, to be merged: sums, counts, tails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from osr.detectors.chunks import Images, as_tensor
from osr.errors import InputError
from osr.outputs import FloatArray
from osr.stored.origin import Origin


class Mergeable(Protocol):
    """A summary of images; that of two sets of images follows from theirs, in any order."""

    def merge(self, other: Any, /) -> Any:
        """The summary of both; neither is changed."""


Part: TypeAlias = Tensor | Mergeable  # tensors are sums: they are added


class Values(NamedTuple):
    """One number per image: (n,) float64."""

    values: Tensor

    def merge(self, other: Values) -> Values:
        """All of them."""
        return Values(torch.cat([self.values, other.values]))


@dataclass(frozen=True)
class Gathered:
    """What a detector has learned of the shards that it has seen.

    Args:
        parts: by name; tensors are sums over the images.
        count: known images.
        weight: (K, D) float32 of the head.
        bias: (K,) float32 of the head.
        made_from: digests of the weights and of the split.
        device: where the parts are.
    """

    parts: Mapping[str, Part]
    count: int
    weight: FloatArray
    bias: FloatArray
    made_from: Origin
    device: torch.device

    @classmethod
    def of(cls, images: Images, parts: Mapping[str, Part]) -> Self:
        """The parts of some images, with what else must agree."""
        outputs = images.outputs
        parts = {name: _moved(part, images.device) for name, part in parts.items()}
        return cls(parts, len(images), outputs.weight, outputs.bias, outputs.made_from, images.device)

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,) of the head, float64."""
        return as_tensor(self.weight, self.device).double(), as_tensor(self.bias, self.device).double()

    def __getitem__(self, name: str) -> Any:
        return self.parts[name]

    def to(self, device: torch.device) -> Self:
        """The same on `device`."""
        parts = {name: _moved(part, device) for name, part in self.parts.items()}
        return replace(self, parts=parts, device=device)

    def merge(self, other: Gathered, *, detector: str) -> Self:
        """That of both; neither is changed.

        Args:
            other: of other images and the same network.
            detector: who asks, for the error.

        Raises:
            InputError: the two are of different networks.
        """
        ours, theirs = self.made_from.weights, other.made_from.weights
        same = np.array_equal(self.weight, other.weight) and np.array_equal(self.bias, other.bias)
        if not same or (None not in (ours, theirs) and ours != theirs):
            raise InputError(
                f"{detector} was given shards of different networks: all must be outputs of the same weights."
            )
        other = other.to(self.device)
        parts = {name: _merged(part, other.parts[name]) for name, part in self.parts.items()}
        origin = self.made_from if self.made_from == other.made_from else self.made_from.only("weights")
        return replace(self, parts=parts, count=self.count + other.count, made_from=origin)


def _merged(one: Part, other: Any) -> Part:
    if isinstance(one, Tensor):
        both: Tensor = one + other
        return both
    merged: Mergeable = one.merge(other)
    return merged


def _moved(part: Any, device: torch.device) -> Any:
    """A tensor, or a named tuple some of whose fields are tensors, on `device`."""
    if isinstance(part, Tensor):
        return part.to(device)
    return type(part)(*(value.to(device) if isinstance(value, Tensor) else value for value in part))
