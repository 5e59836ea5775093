"""The classifier that is deployed: a folder of safetensors and JSON in, a known class or "unknown" out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from osr.errors import InputError
from osr.inference import folder as stored
from osr.inference.inputs import Inputs, read_inputs
from osr.inference.parts import Parts, load_parts
from osr.inference.predictor import UNKNOWN_NAME, Predictor, Verdict
from osr.metrics.thresholds import conformal_p_values, fit_threshold
from osr.stored.arrays import read_arrays
from osr.stored.files import damaged
from osr.stored.origin import check_origin

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Judgement(Verdict):
    """A `Verdict` on N images, with what they are called and how unusual a known image would be.

    Args:
        names: N paths, or numbers among the inputs.
        p_values: (N,) float64 in 1 / (n + 1) .. 1, conformal among the n stored scores of validation knowns;
            small = unknown. See `osr.metrics.thresholds.conformal_p_values`.
        class_names: K names.
    """

    names: tuple[str, ...]
    p_values: Scores
    class_names: tuple[str, ...]

    def top(self, count: int) -> list[list[tuple[str, float]]]:
        """Of each image the `count` most probable known classes with their calibrated probabilities."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]
        return [
            [(self.class_names[index], float(row[index])) for index in best]
            for row, best in zip(self.probabilities, order, strict=True)
        ]


class OpenSetClassifier:
    """Network, calibration, detectors, thresholds and the validation scores behind them, all of one run.

    Args:
        parts: what judges.
        scores: detector -> (n,) scores of validation knowns.
        groups: (n,) group of each of these; None where each stands for itself.
        detector: that judges unless another is asked for.
        batch_size: images per forward pass, at most.
    """

    def __init__(
        self,
        parts: Parts,
        scores: Mapping[str, Scores],
        groups: NDArray[np.int64] | None,
        *,
        detector: str,
        batch_size: int,
    ) -> None:
        self.parts, self.scores, self.groups = parts, scores, groups
        self.detector, self.batch_size = detector, batch_size

    @classmethod
    def load(
        cls, folder: Path | str, *, device: torch.device | str = "cpu", allow_code: str | None = None
    ) -> Self:
        """Read what `osr export` wrote, all of it before any is used; never runs stored code.

        Args:
            folder: with classifier.json in it.
            device: where network and detectors compute.
            allow_code: the one `module:Class` that may be imported for the network; see `OpenSetModel.load`.

        Raises:
            InputError: a file is missing, damaged, was changed, or is of another run than the others.
        """
        folder = Path(folder)
        manifest = stored.read_manifest(folder)
        parts = load_parts(
            weights=folder / stored.WEIGHTS,
            calibration=folder / stored.CALIBRATION,
            detectors=[folder / stored.detector_file(name) for name in manifest.detectors],
            thresholds=folder / stored.THRESHOLDS,
            device=device,
            allow_code=allow_code,
        )
        path = folder / stored.SCORES
        header, scores = read_arrays(path, "validation scores")
        at_hand = parts.model.origin.model_copy(update={"thresholds": parts.thresholds.digest})
        check_origin(path, header.made_from, at_hand, beside=folder)
        groups = scores.pop("group", None)
        if missing := set(manifest.detectors) - scores.keys():
            raise damaged(path, f"it holds no scores of {', '.join(sorted(missing))}")
        return cls(parts, scores, groups, detector=manifest.detector, batch_size=manifest.batch_size)

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
        threshold: float | None = None,
        accept: float | None = None,
        p_value: float | None = None,
    ) -> Judgement:
        """Judge images: an image is accepted as known when its score is at most the threshold.

        Args:
            inputs: see `osr.inference.inputs.read_inputs`.
            detector: one of `detectors`; None means the one that was exported as default.
            threshold: instead of the fitted one.
            accept: the threshold is made anew from the stored scores so that it accepts this share (0..1) of
                known images, by the rule of the fitted one.
            p_value: images whose p-value is at most this (0..1) are unknown; so are at most this share of
                known images.

        Raises:
            InputError: no such detector, more than one of threshold, accept and p_value, one of them that is
                out of range, or an image that cannot be read.
        """
        name = detector or self.detector
        if name not in self.parts.detectors:
            raise InputError(f"detector is {name!r}, but must be one of {', '.join(self.detectors)}.")
        asked = {"threshold": threshold, "accept": accept, "p_value": p_value}
        if len(given := [key for key, value in asked.items() if value is not None]) > 1:
            raise InputError(
                f"Only one of threshold, accept and p_value may be given, not {', '.join(given)}."
            )
        if p_value is not None and not 0 <= p_value <= 1:
            raise InputError(f"p_value is {p_value}, but must lie in 0..1.")
        image_format = self.parts.model.image_format
        names, images = read_inputs(inputs, channels=image_format.channels, frame=image_format.frame)
        verdict = self._predictor(name, accept).predict(images, threshold=threshold)
        p_values = conformal_p_values(self.scores[name], verdict.scores, groups=self.groups)
        labels = verdict.labels
        if p_value is not None:
            known = (self.class_names[index] for index in verdict.predictions)
            pairs = zip(known, p_values, strict=True)
            labels = tuple(UNKNOWN_NAME if found <= p_value else label for label, found in pairs)
        return Judgement(
            labels=labels,
            predictions=verdict.predictions,
            scores=verdict.scores,
            probabilities=verdict.probabilities,
            names=names,
            p_values=p_values,
            class_names=self.class_names,
        )

    def _predictor(self, name: str, accept: float | None) -> Predictor:
        detector, fitted = self.parts.detectors[name]
        if accept is not None:
            fitted = fit_threshold(
                self.scores[name],
                target_acceptance=accept,
                conformal=fitted.rule == "conformal",
                groups=self.groups,
            )
        return Predictor(
            self.parts.model,
            detector,
            threshold=fitted.value,
            calibration=self.parts.calibration,
            batch_size=self.batch_size,
        )
