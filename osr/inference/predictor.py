"""The deployable open-set classifier: images in, a known class or "unknown" out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from osr.calibration.calibrators import Calibration
from osr.data.batches import as_batch
from osr.detectors.base import Detector
from osr.detectors.registry import odin_of
from osr.errors import InputError
from osr.models.forward import forward
from osr.models.open_set_model import OpenSetModel
from osr.outputs import UNKNOWN, Outputs

UNKNOWN_NAME = "unknown"
Images: TypeAlias = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]


@dataclass(frozen=True)
class Verdict:
    """What the classifier says of N images.

    Args:
        labels: N names: a known class, or "unknown" where the score is above the threshold.
        predictions: (N,) int64 in 0..K-1, the nearest known class, whatever the score says.
        scores: (N,) float64, higher = more unknown.
        probabilities: (N, K) float32, of the known classes after calibration; rows sum to 1.
    """

    labels: tuple[str, ...]
    predictions: NDArray[np.int64]
    scores: NDArray[np.float64]
    probabilities: NDArray[np.float32]


class Predictor:
    """Network, calibration, detector and threshold of one run.

    Args:
        model: the network.
        detector: fitted on its outputs.
        threshold: an image is accepted as known when its score is at most this.
        calibration: turns logits into those of the probabilities.
        batch_size: images per forward pass, at most.
    """

    def __init__(
        self,
        model: OpenSetModel,
        detector: Detector,
        *,
        threshold: float,
        calibration: Calibration,
        batch_size: int,
    ) -> None:
        self.model = model.eval()
        self.detector = detector
        self.threshold = threshold
        self.calibration = calibration
        self.batch_size = batch_size

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K known classes, in label order."""
        return self.model.class_names

    @property
    def channels(self) -> int:
        """1 or 3: what images should have; a colour network takes grey images, too."""
        return self.model.image_format.channels

    def predict(self, images: Images, *, threshold: float | None = None) -> Verdict:
        """Judge images.

        Args:
            images: N arrays (H, W, C) uint8 of any sizes, or one array (N, H, W, C).
            threshold: instead of the stored one.

        Raises:
            InputError: an image has another type or shape, or the threshold is no number.
        """
        return self.verdict(self.outputs(images), threshold=threshold)

    def verdict(self, outputs: Outputs, *, threshold: float | None = None) -> Verdict:
        """Judge what `outputs` gave of N images; see `predict`."""
        theta = self.threshold if threshold is None else threshold
        if isinstance(theta, bool) or math.isnan(theta):
            raise InputError(f"The threshold must be a number, not {theta}.")
        scores = self.detector.score(outputs)
        predictions = outputs.predictions
        return Verdict(
            labels=tuple(
                self.class_names[index] if score <= theta else UNKNOWN_NAME
                for index, score in zip(predictions, scores, strict=True)
            ),
            predictions=predictions,
            scores=scores,
            probabilities=softmax(self.calibration.apply(outputs.logits), axis=1).astype(np.float32),
        )

    def outputs(self, images: Images) -> Outputs:
        """One forward pass; images of one size share a batch, and each is resized as in training.

        Args:
            images: as `predict` takes them.

        Raises:
            InputError: an image has another type or shape.
        """
        head = self.model.head
        with torch.no_grad():
            weight, bias = head.affine()
        num_classes = head.num_classes
        logits = np.empty((len(images), len(weight)), np.float32)
        features = np.empty((len(images), weight.shape[1]), np.float32)
        odin = odin_of(self.detector)
        odin_scores = np.empty((len(images), int(odin is not None)))
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            for rows in self._batches(images):
                batch = as_batch(np.stack([images[row] for row in rows]))
                found = forward(self.model, batch.to(device))
                logits[rows], features[rows] = (part.float().cpu().numpy() for part in found)
                if odin:
                    odin_scores[rows, 0] = odin.scores_of(self.model, batch.to(device)).cpu().numpy()
        return Outputs(
            logits=logits[:, :num_classes],
            features=features,
            labels=np.full(len(images), UNKNOWN, np.int64),
            made_from=self.model.origin,
            index=np.arange(len(images)),
            weight=weight.detach()[:num_classes].float().cpu().numpy(),
            bias=np.zeros(num_classes, np.float32)
            if bias is None
            else bias.detach()[:num_classes].cpu().numpy(),
            extra_logits=logits[:, num_classes:],
            odin=odin_scores,
        )

    def _batches(self, images: Images) -> list[list[int]]:
        """Rows of images of one shape, at most `batch_size` each."""
        of_shape: dict[tuple[int, ...], list[int]] = {}
        for row, image in enumerate(images):
            right = image.ndim == 3 and image.dtype == np.uint8 and image.shape[2] in {1, self.channels}
            if not right or 0 in image.shape:
                found = f"{image.dtype} of shape {image.shape}"
                raise InputError(f"image {row} must be (H, W, {self.channels}) uint8, not {found}.")
            of_shape.setdefault(image.shape, []).append(row)
        return [
            rows[start : start + self.batch_size]
            for rows in of_shape.values()
            for start in range(0, len(rows), self.batch_size)
        ]
