"""How an image is decided on, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from osr.errors import InputError
from osr.metrics.conformal import (
    Theta,
    Threshold,
    conformal_p_values,
    fit_class_thresholds,
    fit_threshold,
    theta_at,
)
from osr.settings.guesses import none_of

Scores = NDArray[np.float64]
UNKNOWN_NAME = "unknown"


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


class Decision(NamedTuple):
    """How to judge; of the last three at most one is given.

    Args:
        detector: one of the classifier's; None means its default one.
        threshold: scores above are unknown; instead of the fitted one. K numbers, one for each predicted
            class, where the fitted one is per class, too.
        accept: the threshold is made anew from the stored scores so that it accepts this share (0..1) of
            known images, by the rule of the fitted one.
        p_value: images whose p-value is at most this (0..1) are unknown; so are at most this share of known
            images.
    """

    detector: str | None = None
    threshold: Theta | None = None
    accept: float | None = None
    p_value: float | None = None


DEFAULT = Decision()  # the fitted threshold of the default detector


class Neighbour(NamedTuple):
    """A training image that an image is near to.

    Args:
        number: among the training images of the exported folder.
        class_name: its class.
        similarity: cosine of the angle between the features of both, -1..1; larger = more alike.
    """

    number: int
    class_name: str
    similarity: float


@dataclass(frozen=True)
class Judgement(Verdict):
    """A `Verdict` on N images, with what they are called and how unusual a known image would be.

    Args:
        names: N paths, or numbers among the inputs.
        p_values: (N,) float64 in 1 / (n + 1) .. 1, conformal among the n stored scores of validation knowns;
            small = unknown. See `osr.metrics.thresholds.conformal_p_values`.
        class_names: K names.
        neighbours: of each image the nearest training images, nearest first; empty unless asked for.
    """

    names: tuple[str, ...]
    p_values: Scores
    class_names: tuple[str, ...]
    neighbours: tuple[tuple[Neighbour, ...], ...] = ()

    def top(self, count: int) -> list[list[tuple[str, float]]]:
        """Of each image the `count` most probable known classes with their calibrated probabilities."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]
        return [
            [(self.class_names[index], float(row[index])) for index in best]
            for row, best in zip(self.probabilities, order, strict=True)
        ]

    def part(self, rows: slice) -> Judgement:
        """That of some of the images."""
        return Judgement(
            labels=self.labels[rows],
            predictions=self.predictions[rows],
            scores=self.scores[rows],
            probabilities=self.probabilities[rows],
            names=self.names[rows],
            p_values=self.p_values[rows],
            class_names=self.class_names,
            neighbours=self.neighbours[rows],
        )


class Known(NamedTuple):
    """What the validation knowns say of one detector.

    Args:
        fitted: the threshold of the run.
        scores: (n,) of these images.
        groups: (n,) group of each of them; None where each stands for itself.
        predictions: (n,) int64 their predicted classes; there where the threshold is per class.
        class_names: K names.
    """

    fitted: Threshold
    scores: Scores
    groups: NDArray[np.int64] | None
    predictions: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()

    @property
    def num_held_out(self) -> int:
        """n: how many images, or groups where there are groups; no p-value is below 1 / (n + 1)."""
        return len(self.scores) if self.groups is None else len(np.unique(self.groups))

    def check(self, decision: Decision) -> None:
        """Refuse a p-value that no image can have, by which all would pass."""
        if decision.p_value is None:
            return
        count = self.num_held_out
        if decision.p_value < (1 - 1e-9) / (count + 1):
            raise InputError(
                f"p_value is {decision.p_value:g}, which rejects nothing: with {count:,} known images held"
                f" out none is below 1/{count + 1:,} ({1 / (count + 1):.2g}). More (`osr recalibrate`) make"
                " smaller ones."
            )

    def threshold(self, decision: Decision) -> Theta:
        """The score above which images are unknown; nothing is fitted but a threshold that is asked for."""
        if decision.threshold is not None:
            return decision.threshold
        if decision.accept is None:
            return self.fitted.theta
        if self.predictions is not None:
            return fit_class_thresholds(
                self.scores,
                self.predictions,
                class_names=self.class_names,
                target_acceptance=decision.accept,
                groups=self.groups,
            ).theta
        return fit_threshold(
            self.scores,
            target_acceptance=decision.accept,
            conformal=self.fitted.rule == "conformal",
            groups=self.groups,
        ).theta

    def expected_rejection(self, decision: Decision) -> float:
        """The share (0..1) of new known images that a decision is to call unknown; a theta, of these ones."""
        ranks = self.num_held_out + 1
        if decision.threshold is not None:
            return self.rejected(decision.threshold)
        if decision.p_value is not None:
            exact = self.groups is None
            return math.floor(decision.p_value * ranks + 1e-9) / ranks if exact else decision.p_value
        if decision.accept is None and self.fitted.rule == "background":
            return _rest(self.fitted.acceptance)
        return max(_rest(self.fitted.target if decision.accept is None else decision.accept), 1 / ranks)

    def rejected(self, theta: Theta) -> float:
        """The share (0..1) of these images that a threshold calls unknown."""
        own = theta if self.predictions is None else theta_at(theta, self.predictions)
        return float(np.mean(self.scores > own))


def check_detector(name: str | None, detectors: Collection[str]) -> None:
    """Raise `InputError` where a detector is asked for that is not to choose from."""
    if name is None or name in detectors:
        return
    told = none_of(f"detector is {name!r}", name, detectors, f"one of {', '.join(detectors)}")
    raise InputError(
        f"{told}: those that detectors.enabled named when it was exported. For another, name it there, then "
        "`osr run` and `osr export`."
    )


def check_decision(decision: Decision, detectors: Collection[str], num_thresholds: int = 1) -> None:
    """Raise `InputError` for no such detector, a decision of two kinds, or one out of range.

    Args:
        decision: as somebody asks for it.
        detectors: to choose from.
        num_thresholds: K where the fitted threshold is one for each class.
    """
    name, threshold, accept, p_value = decision
    check_detector(name, detectors)
    for kind, value in (("accept", accept), ("p_value", p_value)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
            raise InputError(f"{kind} is {value!r}, but must be a number.")
    kinds = ("threshold", "accept", "p_value")
    if len(given := [kind for kind in kinds if getattr(decision, kind) is not None]) > 1:
        raise InputError(f"Only one of threshold, accept and p_value may be given, not {', '.join(given)}.")
    if p_value is not None and not 0 <= p_value <= 1:
        raise InputError(f"p_value is {p_value}, but must lie in 0..1.")
    if accept is not None and not 0 < accept <= 1:
        raise InputError(f"accept is {accept}, but must be above 0 and at most 1.")
    if isinstance(threshold, tuple) and len(threshold) != num_thresholds:
        wanted = "one number" + (f", or {num_thresholds}, one for each class" if num_thresholds > 1 else "")
        raise InputError(f"threshold is {len(threshold)} numbers, but must be {wanted}.")
    for theta in threshold if isinstance(threshold, tuple) else (threshold,):
        if theta is None:
            continue
        if isinstance(theta, bool) or not isinstance(theta, Real) or math.isnan(theta):
            raise InputError(f"threshold is {theta}, but must be a number.")


def labels_at(
    threshold: Theta, scores: Scores, predictions: NDArray[np.int64], class_names: Sequence[str]
) -> tuple[str, ...]:
    """The class of each image, or "unknown" where its score is above the threshold, or that of its class."""
    accepted = scores <= theta_at(threshold, predictions)
    return tuple(
        class_names[index] if is_known else UNKNOWN_NAME
        for index, is_known in zip(predictions, accepted, strict=True)
    )


def judgement_of(
    verdict: Verdict, decision: Decision, known: Known, *, names: Sequence[str], class_names: tuple[str, ...]
) -> Judgement:
    """A verdict at `known.threshold` with its p-values, and by them where the decision asks for that.

    Args:
        verdict: on N images.
        decision: how.
        known: of the detector that judged.
        names: of the images; otherwise their numbers.
        class_names: K names.
    """
    p_values = conformal_p_values(known.scores, verdict.scores, groups=known.groups)
    labels = verdict.labels
    if decision.p_value is not None:
        labels = tuple(
            UNKNOWN_NAME if found <= decision.p_value else class_names[index]
            for index, found in zip(verdict.predictions, p_values, strict=True)
        )
    return Judgement(
        labels=labels,
        predictions=verdict.predictions,
        scores=verdict.scores,
        probabilities=verdict.probabilities,
        names=tuple(names) or tuple(map(str, range(len(labels)))),
        p_values=p_values,
        class_names=class_names,
    )


def _rest(share: float) -> float:
    """1 - share, as people would write it: 0.05 of 0.95."""
    return round(1 - share, 12)
