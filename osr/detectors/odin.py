"""ODIN: a score that needs the network again, with the gradient of its input. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from osr.detectors.chunks import Batch
from osr.detectors.network_again import NetworkAgain
from osr.models.open_set_model import OpenSetModel


@dataclass(kw_only=True, eq=False)
class Odin(NetworkAgain):
    """-max softmax(z(x') / T), x' = x - e sign(grad of -log max softmax(z(x) / T)). Liang et al. 2018.

    Two forward passes and one backward pass more for each image, with `extraction.odin: true` only; the
    scores are stored with the outputs, and this detector reads them.

    Args:
        temperature: T, in the loss and in the score, above 0. Published: 1000.
        epsilon: e, in units of the normalised pixels that the network sees, at least 0. Published: 0.0014;
            the authors' program moves by that divided by the standard deviation of each channel.

    `score` refuses outputs that were made without it.
    """

    name: ClassVar[str] = "odin"
    column: ClassVar[str] = "odin"
    setting: ClassVar[str] = "extraction.odin"
    why_no_graph: ClassVar[str] = "odin needs the gradient of the network, which ONNX lacks"
    temperature: float
    epsilon: float

    def column_of(self, model: OpenSetModel, images: Tensor) -> Tensor:
        """(B,) float64, the score itself."""
        with torch.inference_mode(mode=False):
            with torch.no_grad():
                pixels = model.preprocess(images.clone())
            with torch.enable_grad():
                pixels.requires_grad_()
                loss = -self._log_probabilities(model, pixels).max(1).values.sum()
                (gradient,) = torch.autograd.grad(loss, pixels)
            with torch.no_grad():
                moved = pixels - self.epsilon * gradient.sign()
                return -self._log_probabilities(model, moved).amax(1).exp()

    def _score(self, batch: Batch) -> Tensor:
        return self.read(batch)

    def _log_probabilities(self, model: OpenSetModel, pixels: Tensor) -> Tensor:
        """(B, K) float64; at T = 1000 all are nearly equal, and float32 would lose their order."""
        logits, _ = model.classify(pixels)
        return log_softmax(logits[:, : model.head.num_classes].double() / self.temperature, 1)
