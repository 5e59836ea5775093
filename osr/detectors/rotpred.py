"""RotPred: how badly the second head tells quarter turns of an image apart. Higher = more unknown."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from osr.detectors.chunks import Batch
from osr.detectors.network_again import NetworkAgain
from osr.detectors.softmax import log_sum_exp
from osr.models.open_set_model import OpenSetModel
from osr.models.rotations import rotation_losses, turned


class RotPred(NetworkAgain):
    """Mean cross-entropy of the four turns - cross-entropy of p against the uniform distribution.

    The second is log K + KL(uniform || p), large where one class has all probability: images are known whose
    turns are told apart and whose class is sure. Four forward passes an image, with a network trained with
    `model.rotation_head` and `extraction.rotations: true`; the first term is stored with the outputs.
    Source: Hendrycks et al. 2019, "Using Self-Supervised Learning Can Improve Model Robustness and
    Uncertainty", NeurIPS, section 4.2, and github.com/hendrycks/ss-ood, multiclass_ood/test_auxiliary_ood.py.

    `score` refuses outputs that were made without it.
    """

    name: ClassVar[str] = "rotpred"
    column: ClassVar[str] = "rotation"
    setting: ClassVar[str] = "extraction.rotations"
    why_no_graph: ClassVar[str] = "rotpred needs the network four times, which a graph runs once"

    def column_of(self, model: OpenSetModel, images: Tensor) -> Tensor:
        """(B,) float64 mean cross-entropy of the four turns of (B, C, H, W) uint8 images."""
        with torch.no_grad():
            pixels = model.preprocess(images)
            with torch.autocast(images.device.type, torch.bfloat16, enabled=model.computing.in_bfloat16):
                vectors = model.embed(torch.cat([pixels, turned(pixels)]))
            return rotation_losses(model.turns(vectors.float()).double())

    def _score(self, batch: Batch) -> Tensor:
        sure = log_sum_exp(batch.logits.double()) - batch.logits.double().mean(1)
        return self.read(batch) - sure
