"""The deployable open-set classifier: images in, a known class or "unknown" out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import softmax

from osr.calibration.calibrators import Calibration
from osr.data.batches import as_batch
from osr.detectors.base import Detector
from osr.detectors.network_again import NetworkAgain
from osr.detectors.registry import network_again_of
from osr.errors import InputError
from osr.inference.inputs import Images as Images
from osr.inference.inputs import batches_of
from osr.inference.judgement import UNKNOWN_NAME as UNKNOWN_NAME
from osr.inference.judgement import Verdict as Verdict
from osr.inference.judgement import labels_at
from osr.metrics.conformal import Theta
from osr.models.forward import forward
from osr.models.open_set_model import OpenSetModel
from osr.outputs import UNKNOWN, LinearLogits, Outputs


class Predictor:
    """Network, calibration, detector and threshold of one run.

    Args:
        model: the network.
        detector: fitted on its outputs.
        threshold: an image is accepted as known when its score is at most this; K numbers are those of the
            images that are predicted as each class.
        calibration: turns logits into those of the probabilities.
        batch_size: images per forward pass, at most.
    """

    def __init__(
        self,
        model: OpenSetModel,
        detector: Detector,
        *,
        threshold: Theta,
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

    def predict(self, images: Images, *, threshold: Theta | None = None) -> Verdict:
        """Judge images.

        Args:
            images: N arrays (H, W, C) uint8 of any sizes, or one array (N, H, W, C).
            threshold: instead of the stored one.

        Raises:
            InputError: an image has another type or shape, or the threshold is no number.
        """
        return self.verdict(self.outputs(images), threshold=threshold)

    def verdict(self, outputs: Outputs, *, threshold: Theta | None = None) -> Verdict:
        """Judge what `outputs` gave of N images; see `predict`."""
        theta = self.threshold if threshold is None else threshold
        if isinstance(theta, bool) or np.isnan(theta).any():
            raise InputError(f"The threshold must be a number, not {theta}.")
        scores = self.detector.score(outputs)
        predictions = outputs.predictions
        return Verdict(
            labels=labels_at(theta, scores, predictions, self.class_names),
            predictions=predictions,
            scores=scores,
            probabilities=softmax(self.calibration.apply(outputs.logits), axis=1).astype(np.float32),
        )

    def outputs(self, images: Images, *, again: Sequence[NetworkAgain] | None = None) -> Outputs:
        """One forward pass; images of one size share a batch, and each is resized as in training.

        Args:
            images: as `predict` takes them.
            again: detectors that need the network again; None means those of this predictor.

        Raises:
            InputError: an image has another type or shape.
        """
        head = self.model.head
        with torch.no_grad():
            weight, bias = head.affine()
        kernel, num_classes = weight.detach().float().cpu().numpy(), head.num_classes
        offset = np.zeros(len(kernel), np.float32) if bias is None else bias.detach().float().cpu().numpy()
        logits = np.empty((len(images), len(weight)), np.float32)
        features = np.empty((len(images), weight.shape[1]), np.float32)
        again = network_again_of(self.detector) if again is None else again
        columns = {each.column: np.empty((len(images), 1)) for each in again}
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            for rows in batches_of(images, channels=self.channels, batch_size=self.batch_size):
                batch = as_batch(np.stack([images[row] for row in rows]))
                found = forward(self.model, batch.to(device))
                logits[rows], features[rows] = (part.float().cpu().numpy() for part in found)
                for part in _parts(len(kernel), num_classes):
                    own = LinearLogits(features[rows], kernel[part], offset[part], block=len(rows))
                    logits[rows, part] = np.asarray(own)
                for each in again:
                    columns[each.column][rows, 0] = each.column_of(self.model, batch.to(device)).cpu().numpy()
        return Outputs(
            logits=logits[:, :num_classes],
            features=features,
            labels=np.full(len(images), UNKNOWN, np.int64),
            made_from=self.model.origin,
            index=np.arange(len(images)),
            weight=kernel[:num_classes],
            bias=offset[:num_classes],
            extra_logits=logits[:, num_classes:],
            **columns,
        )


def _parts(num_logits: int, num_classes: int) -> tuple[slice, ...]:
    """Known and extra classes, whose logits are worked out apart, as `extract` does; none without the latter.

    The last bits of a product depend on its width.
    """
    return (slice(num_classes), slice(num_classes, None)) if num_logits > num_classes else ()
