"""The deployed classifier in ONNX Runtime: the answers of `osr.load(folder)` for its default detector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime

from osr_runtime.fitting import Square
from osr_runtime.folder import Contents, read_folder
from osr_runtime.shared.conformal import Theta, Threshold
from osr_runtime.shared.errors import InputError
from osr_runtime.shared.inputs import Images, Inputs, batches_of, read_inputs
from osr_runtime.shared.judgement import (
    DEFAULT,
    Decision,
    Judgement,
    Known,
    Verdict,
    check_decision,
    judgement_of,
    labels_at,
)


@dataclass(frozen=True)
class OnnxClassifier:
    """Graph, threshold and the validation scores behind it.

    Args:
        session: of the graph.
        class_names: names of the K known classes, in label order.
        detector: the one that judges in the graph.
        known: its threshold and validation scores.
        square: what large images are brought to.
        channels: 1 or 3.
        batch_size: images in one run of the graph, at most.
    """

    session: Any
    class_names: tuple[str, ...]
    detector: str
    known: Known
    square: Square
    channels: int
    batch_size: int

    @classmethod
    def load(cls, folder: Path | str, *, threads: int = 0) -> Self:
        """Read what `osr export --onnx` wrote; never runs stored code.

        Args:
            folder: with classifier.json and classifier.onnx in it.
            threads: of the graph; 0 means one for each core.

        Raises:
            InputError: a file is missing or was changed.
        """
        contents = read_folder(Path(folder))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # it warns of the threshold, an input with a default
        session = onnxruntime.InferenceSession(contents.graph, options, providers=["CPUExecutionProvider"])
        said = session.get_modelmeta().custom_metadata_map
        try:
            image_format, detector = json.loads(said["image_format"]), said["detector"]
            frame = {key: image_format[key] for key in ("size", "interpolation", "crop_fraction")}
            fitted = Threshold(**json.loads(said["threshold"]))
            return cls(
                session=session,
                class_names=tuple(json.loads(said["class_names"])),
                detector=detector,
                known=_known(fitted, contents, detector, tuple(json.loads(said["class_names"]))),
                square=Square(**frame),
                channels=image_format["channels"],
                batch_size=json.loads(said["batch_size"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            told = f"it does not say what it is ({error})"
            raise InputError(f"{contents.graph} was not written by `osr export --onnx`: {told}.") from error

    def predict(
        self,
        inputs: Inputs,
        *,
        detector: str | None = None,
        threshold: Theta | None = None,
        accept: float | None = None,
        p_value: float | None = None,
    ) -> Judgement:
        """Read images and judge them: one is accepted as known when its score is at most the threshold.

        Args:
            inputs: paths (a folder stands for the images in it), bytes of files, images of Pillow, arrays
                (H, W, C) uint8, one or several of them; or an array (N, H, W, C).
            detector: None or the one of the graph; see `Decision`, as for the others.
            threshold: a score.
            accept: a share.
            p_value: a share.

        Raises:
            InputError: see `judge`; or an image cannot be read.
        """
        decision = Decision(detector, threshold, accept, p_value)
        self._check(decision)
        names, images = read_inputs(inputs, channels=self.channels, frame=self.square)
        return self.judge(images, decision, names=names)

    def judge(self, images: Images, decision: Decision = DEFAULT, *, names: Sequence[str] = ()) -> Judgement:
        """Judge pixels.

        Args:
            images: N arrays (H, W, C) uint8 of any sizes, or one array (N, H, W, C).
            decision: how.
            names: what they are called; otherwise their numbers.

        Raises:
            InputError: another detector than that of the graph, a decision of two kinds or out of range, an
                image of another type or shape, or a score that is not finite.
        """
        self._check(decision)
        theta = self.known.threshold(decision)
        scores, predictions = np.empty(len(images)), np.empty(len(images), np.int64)
        probabilities = np.empty((len(images), len(self.class_names)), np.float32)
        for rows in batches_of(images, channels=self.channels, batch_size=self.batch_size):
            batch = np.stack([images[row] for row in rows])
            batch = np.repeat(batch, self.channels // batch.shape[3], axis=3)
            wanted = ["score", "probabilities", "prediction"]
            scores[rows], probabilities[rows], predictions[rows] = self.session.run(wanted, {"images": batch})
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise InputError(
                f"{self.detector} gives {scores[row]} for image {row}: its features or logits are too large."
            )
        labels = labels_at(theta, scores, predictions, self.class_names)
        verdict = Verdict(labels, predictions, scores, probabilities)
        return judgement_of(verdict, decision, self.known, names=names, class_names=self.class_names)

    def _check(self, decision: Decision) -> None:
        check_decision(decision._replace(threshold=None), (self.detector,))
        check_decision(decision, (self.detector,), len(self.known.fitted.per_class or (0,)))
        self.known.check(decision)


def _known(fitted: Threshold, contents: Contents, detector: str, class_names: tuple[str, ...]) -> Known:
    """What the validation knowns say; thresholds per class come as a list from JSON."""
    if fitted.per_class is None:
        return Known(fitted, contents.scores[detector], contents.groups)
    fitted = replace(fitted, per_class=tuple(fitted.per_class))
    return Known(fitted, contents.scores[detector], contents.groups, contents.predictions, class_names)
