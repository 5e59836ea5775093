"""Detectors inside a graph that `torch.export` records: what data decides, the graph decides itself.

A graph is one straight line: it knows no numpy, no number of images and no `if` over values. Where a detector
takes a shorter way for some images, it computes both while it is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Traced:
    """What a network gives for N images inside a graph; the fields of `osr.outputs.Outputs` that scores read.

    Args:
        logits: (N, K) float32.
        features: (N, D) float32.
        extra_logits: (N, E) float32, E may be 0.
        weight: (K, D) float32 of the head.
        bias: (K,) float32 of the head.
    """

    logits: Tensor
    features: Tensor
    extra_logits: Tensor
    weight: Tensor
    bias: Tensor

    @property
    def labels(self) -> Tensor:
        """(0,) int64: nobody knows any, and no score looks at them."""
        return torch.empty(0, dtype=torch.int64)

    @property
    def odin(self) -> Tensor:
        """(N, 0) float64: a graph has no gradients."""
        return self.logits[:, :0].double()

    @property
    def rotation(self) -> Tensor:
        """(N, 0) float64: a graph runs the network once."""
        return self.logits[:, :0].double()


def is_traced() -> bool:
    """Whether `torch.export` records what is computed."""
    return torch.compiler.is_compiling()
