"""The classifier that is deployed: a folder of safetensors and JSON in, a known class or "unknown" out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from osr.detectors.registry import network_again_of
from osr.inference import folder as stored
from osr.inference.inputs import Images, Inputs, read_inputs
from osr.inference.judgement import (
    DEFAULT,
    Decision,
    Judgement,
    Known,
    Scores,
    check_decision,
    judgement_of,
)
from osr.inference.parts import Parts, load_parts
from osr.inference.predictor import Predictor
from osr.inference.training_images import TrainingImages, check_neighbours
from osr.metrics.conformal import Theta, Threshold
from osr.metrics.threshold_files import PREDICTION
from osr.models.preprocess import ImageFormat
from osr.outputs import Outputs
from osr.settings.own_code import Allowed
from osr.stored.arrays import read_arrays
from osr.stored.files import damaged
from osr.stored.makers import EXPORTED, made_by
from osr.stored.origin import check_origin


class OpenSetClassifier:
    """Network, calibration, detectors, thresholds and the validation scores behind them, all of one run.

    Args:
        parts: what judges.
        scores: detector -> (n,) scores of validation knowns.
        groups: (n,) group of each of these; None where each stands for itself.
        detector: that judges unless another is asked for.
        batch_size: images per forward pass, at most.
        training_images: some of each class, for neighbours; None where the folder has none.
        predictions: (n,) predicted classes of the validation knowns, where thresholds are per class.
    """

    def __init__(
        self,
        parts: Parts,
        scores: Mapping[str, Scores],
        groups: NDArray[np.int64] | None,
        *,
        detector: str,
        batch_size: int,
        training_images: TrainingImages | None = None,
        predictions: NDArray[np.int64] | None = None,
    ) -> None:
        self.parts, self.scores, self.groups, self.predictions = parts, scores, groups, predictions
        self.training_images = training_images
        self.detector, self.batch_size = detector, batch_size

    @classmethod
    def load(
        cls, folder: Path | str, *, device: torch.device | str = "cpu", allow_code: Allowed = None
    ) -> Self:
        """Read what `osr export` wrote, all of it before any is used; never runs stored code.

        Args:
            folder: with classifier.json in it.
            device: where network and detectors compute.
            allow_code: each `module:Class` that may be imported for network and detectors; None for none.

        Raises:
            InputError: a file is missing, damaged, was changed, or is of another run than the others.
        """
        folder = Path(folder)
        with made_by(EXPORTED):
            manifest = stored.read_manifest(folder)
            made = cls.from_files(
                weights=folder / stored.WEIGHTS,
                calibration=folder / stored.CALIBRATION,
                detectors={name: folder / stored.detector_file(name) for name in manifest.detectors},
                thresholds=folder / stored.THRESHOLDS,
                scores=folder / stored.SCORES,
                detector=manifest.detector,
                batch_size=manifest.batch_size,
                device=device,
                allow_code=allow_code,
            )
            if stored.NEIGHBOURS in manifest.files:
                made.training_images = TrainingImages.load(
                    folder / stored.NEIGHBOURS, made.parts.model.origin, num_classes=len(made.class_names)
                )
            return made

    @classmethod
    def from_files(
        cls,
        *,
        weights: Path,
        calibration: Path,
        detectors: Mapping[str, Path],
        thresholds: Path,
        scores: Path,
        detector: str,
        batch_size: int,
        device: torch.device | str = "cpu",
        allow_code: Allowed = None,
    ) -> Self:
        """Read the files of a run, all of them before any is used; never runs stored code.

        Args:
            weights: what `OpenSetModel.save` wrote.
            calibration: what `save_calibration` wrote.
            detectors: name -> what `Detector.save` wrote.
            thresholds: what `save_thresholds` wrote.
            scores: of the validation knowns, as stage fit-openmax writes them.
            detector: that judges unless another is asked for.
            batch_size: images per forward pass, at most.
            device: where network and detectors compute.
            allow_code: each `module:Class` that may be imported for network and detectors; None for none.

        Raises:
            InputError: a file is missing, damaged, was changed, or was made from other weights, another split
                or another fit of a detector than the rest; or there is no threshold for a detector.
        """
        parts = load_parts(
            weights=weights,
            calibration=calibration,
            detectors=list(detectors.values()),
            thresholds=thresholds,
            device=device,
            allow_code=allow_code,
        )
        header, arrays = read_arrays(scores, "validation scores")
        at_hand = parts.model.origin.model_copy(update={"thresholds": parts.thresholds.digest})
        check_origin(scores, header.made_from, at_hand, beside=weights)
        groups, predictions = arrays.pop("group", None), arrays.pop(PREDICTION, None)
        if predictions is None and any(fit.per_class for _, fit in parts.detectors.values()):
            raise damaged(scores, f"it holds no {PREDICTION} of the images, which thresholds per class need")
        if missing := set(detectors) - arrays.keys():
            raise damaged(scores, f"it holds no scores of {', '.join(sorted(missing))}")
        return cls(parts, arrays, groups, detector=detector, batch_size=batch_size, predictions=predictions)

    @property
    def image_format(self) -> ImageFormat:
        """How images must be before the network takes them."""
        return self.parts.model.image_format

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K known classes, in label order."""
        return self.parts.model.class_names

    @property
    def detectors(self) -> tuple[str, ...]:
        """The detectors to choose from."""
        return tuple(self.parts.detectors)

    def predict(
        self,
        inputs: Inputs,
        *,
        detector: str | None = None,
        threshold: Theta | None = None,
        accept: float | None = None,
        p_value: float | None = None,
        neighbours: int = 0,
    ) -> Judgement:
        """Read images and judge them: one is accepted as known when its score is at most the threshold.

        Args:
            inputs: see `osr.inference.inputs.read_inputs`.
            detector: see `Decision`; so are the others.
            threshold: a score.
            accept: a share.
            p_value: a share.
            neighbours: how many training images to name, nearest first; see `judge`.

        Raises:
            InputError: see `judge`; or an image cannot be read.
        """
        decision = Decision(detector, threshold, accept, p_value)
        self.check(decision)
        self.check_neighbours(neighbours)
        image_format = self.image_format
        names, images = read_inputs(inputs, channels=image_format.channels, frame=image_format.frame)
        return self.judge(images, decision, names=names, neighbours=neighbours)

    def judge(
        self,
        images: Images,
        decision: Decision = DEFAULT,
        *,
        names: Sequence[str] = (),
        neighbours: int = 0,
    ) -> Judgement:
        """Judge pixels.

        Args:
            images: N arrays (H, W, C) uint8 of any sizes, or one array (N, H, W, C).
            decision: how.
            names: what they are called; otherwise their numbers.
            neighbours: how many training images to name for each, of those in the folder.

        Raises:
            InputError: no such detector, a decision of two kinds or out of range, an image of another type
                or shape, or more neighbours than there are training images.
        """
        self.check(decision)
        self.check_neighbours(neighbours)
        outputs = self.outputs(images, detector=decision.detector or self.detector)
        found = self.judge_outputs(outputs, decision, names=names)
        if not neighbours or self.training_images is None:
            return found
        near = self.training_images.nearest(outputs.features, neighbours, self.class_names)
        return replace(found, neighbours=near)

    def check_neighbours(self, count: int) -> None:
        """Raise what `judge` raises of a number of neighbours."""
        check_neighbours(self.training_images, count)

    def judge_outputs(
        self, outputs: Outputs, decision: Decision = DEFAULT, *, names: Sequence[str] = ()
    ) -> Judgement:
        """Judge what `outputs` gave of N images; see `judge`."""
        self.check(decision)
        name = decision.detector or self.detector
        verdict = self._predictor(name).verdict(outputs, threshold=self.threshold(decision))
        return judgement_of(verdict, decision, self._known(name), names=names, class_names=self.class_names)

    def outputs(self, images: Images, *, detector: str | None = None) -> Outputs:
        """What the network says of N images.

        Args:
            images: as `judge` takes them.
            detector: the one that is to score it; None means that any may.

        Raises:
            InputError: no such detector, or an image of another type or shape.
        """
        self.check(Decision(detector))
        names = self.detectors if detector is None else (detector,)
        again = network_again_of(*(self.parts.detectors[name][0] for name in names))
        return self._predictor(names[0]).outputs(images, again=again)

    def check(self, decision: Decision) -> None:
        """Raise what `judge` raises of a decision."""
        check_decision(decision._replace(threshold=None), self.detectors)
        check_decision(decision, self.detectors, len(self._fitted(decision).per_class or (0,)))
        self._known(decision.detector or self.detector).check(decision)

    def threshold(self, decision: Decision = DEFAULT) -> Theta:
        """The score above which images are unknown: as fitted, as given, or for a share to accept.

        K numbers where that depends on the predicted class.

        Args:
            decision: without a p_value.
        """
        return self._known(decision.detector or self.detector).threshold(decision)

    def expected_rejection(self, decision: Decision = DEFAULT) -> float:
        """The share (0..1) of known images that a decision is to call unknown.

        For a threshold of one's own it is the share of the stored validation knowns; the others promise it.
        n of these promise no less than 1 / (n + 1), as a new image may be the strangest of n + 1, and of
        p-values only multiples of that.
        """
        return self._known(decision.detector or self.detector).expected_rejection(decision)

    def held_out(self, detector: str | None = None) -> int:
        """How many known images stand behind thresholds and p-values, groups where there are groups."""
        return self._known(detector or self.detector).num_held_out

    def _fitted(self, decision: Decision) -> Threshold:
        return self.parts.detectors[decision.detector or self.detector][1]

    def _known(self, name: str) -> Known:
        fitted = self.parts.detectors[name][1]
        predictions = None if fitted.per_class is None else self.predictions
        return Known(fitted, self.scores[name], self.groups, predictions, self.class_names)

    def _predictor(self, name: str) -> Predictor:
        detector, fitted = self.parts.detectors[name]
        return Predictor(
            self.parts.model,
            detector,
            threshold=fitted.theta,
            calibration=self.parts.calibration,
            batch_size=self.batch_size,
        )
