"""Leave-classes-out: an estimate of what is rejected, from known classes that play unknown in turn.

Everything that the left-out classes touch is fitted anew without them on stored features: head, detectors and
thresholds. The network that made the features is not. Where it was trained on them, it has learned to tell
these classes apart, truly unknown ones look more like known ones, and the estimate is too good; on frozen
features it has no such fault. Higher score = more unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from osr.detectors.base import Detector
from osr.detectors.registry import anew, members_of, needs_more_than_features
from osr.errors import InputError
from osr.estimation.folds import refitted, with_head
from osr.metrics.intervals import class_mean_with_ends
from osr.metrics.open_set import headline_metrics
from osr.metrics.per_class import UnknownClass, Unknowns, unknown_classes
from osr.metrics.thresholds import (
    ACCEPTANCES,
    Threshold,
    count_accepted,
    fit_threshold,
    rejection_name,
)
from osr.outputs import IntArray, Outputs
from osr.progress import Steps, announce
from osr.training.settings import ProbeSettings

METRICS = ("auroc", "auoscr", "fpr_at_95tpr_known", "unknown_rejection")

Scores = NDArray[np.float64]
ThresholdOf = Callable[[Scores, Scores | None, IntArray], Threshold]


@dataclass(frozen=True)
class Stored:
    """Outputs of one network that knows all K classes.

    Args:
        train: of its training images.
        val: of validation knowns.
        test: of known test images.
        background: of background images that were not trained on; None where thresholds do without.
    """

    train: Outputs
    val: Outputs
    test: Outputs
    background: Outputs | None = None


@dataclass(frozen=True)
class LeftOut:
    """A known class that played unknown, for one detector.

    Args:
        fold: in which it did, from 0.
        row: how it fared against the known test images of the other folds' classes.
        values: the metrics of `METRICS` with its test images as the unknown ones, and what would be rejected
            of them if more or fewer knowns were accepted (`rejection_name`).
    """

    fold: int
    row: UnknownClass
    values: Mapping[str, float]


@dataclass(frozen=True)
class Estimate:
    """What leaving classes out has found.

    Args:
        classes: detector -> every known class, the one with the smallest AUROC first.
        known_acceptance: detector -> share of the known test images that the folds accept, mean over folds.
        accuracy: of the heads that were fitted anew, on the test images of the classes they know; mean.
        accuracy_of_head: of the network's own head on the same images among the same classes; mean.
        left_out: detector that has no estimate -> why.
        num_folds: how many.
    """

    classes: Mapping[str, Sequence[LeftOut]]
    known_acceptance: Mapping[str, float]
    accuracy: float
    accuracy_of_head: float
    left_out: Mapping[str, str]
    num_folds: int

    def metrics(self, confidence: float) -> dict[str, dict[str, float]]:
        """Metric -> detector -> mean over the classes, with _low and _high: the interval over classes.

        It is as wide as few classes are few: each class is one draw of what unknown classes there may be.
        """
        found: dict[str, dict[str, float]] = {}
        for detector, rows in self.classes.items():
            for metric in METRICS:
                values = [row.values[metric] for row in rows]
                ends = class_mean_with_ends(values, confidence=confidence)
                for end, value in zip(("", "_low", "_high"), ends, strict=True):
                    found.setdefault(f"{metric}{end}", {})[detector] = value
            worst = min(row.values["unknown_rejection"] for row in rows)
            found.setdefault("worst_unknown_rejection", {})[detector] = worst
        return {**found, "known_acceptance": dict(self.known_acceptance)} if found else {}


def estimate_rejection(
    stored: Stored,
    detectors: Mapping[str, Detector],
    *,
    threshold_of: ThresholdOf,
    names: Sequence[str],
    folds: Sequence[IntArray],
    probe: ProbeSettings,
    title: str = "leave classes out",
) -> Estimate:
    """Leave each known class out once; its test images play the unknown ones.

    Args:
        stored: what the network said.
        detectors: by name; their settings count, and they stay as they are.
        threshold_of: from the scores of validation knowns, those of background images or None, and the rows
            of these validation images among all of them.
        names: of the K known classes, in label order.
        folds: ids of the classes that are left out together, each class in one of them; see `class_folds`
            and `similar_folds`.
        probe: how the head of each fold is fitted.
        title: of the step, where a terminal or a log shows how much of it is done.

    Raises:
        InputError: a head whose fit does not converge.
    """
    reasons = {name: why for name, one in detectors.items() if (why := needs_more_than_features(one))}
    classes: dict[str, list[LeftOut]] = {}
    accepted: dict[str, list[float]] = {}
    accuracies = []
    members = {member.name for one in detectors.values() for member in members_of(one)[1:]}
    announce(title, len(folds), "folds")
    with Steps(title, len(folds) * len(detectors), "detectors in all folds") as steps:
        for number, left_out in enumerate(folds):
            fold = _Fold.of(stored, left_out, tuple(names), probe)
            accuracies.append(fold.accuracies(stored.test))
            beside: list[Detector] = []  # no more of them than an ensemble can use: they may be large
            for name in detectors:
                steps.step()
                if name in reasons:
                    continue
                detector = anew(detectors[name])
                try:
                    found, share = fold.judge(detector, beside, threshold_of)
                except InputError as error:  # fewer images or classes than it or its threshold needs
                    reasons[name] = str(error)
                    continue
                beside += [detector] * (name in members)
                classes.setdefault(name, []).extend(LeftOut(number, row, values) for row, values in found)
                accepted.setdefault(name, []).append(share)
    own, heads = np.mean(accuracies, axis=0).tolist()
    whole = [name for name in detectors if name not in reasons]
    return Estimate(
        classes={name: sorted(classes[name], key=lambda found: found.row.auroc) for name in whole},
        known_acceptance={name: float(np.mean(accepted[name])) for name in whole},
        accuracy=heads,
        accuracy_of_head=own,
        left_out=reasons,
        num_folds=len(folds),
    )


@dataclass(frozen=True)
class _Fold:
    """The outputs of one fold under its own head, and which validation images they are."""

    train: Outputs
    val: Outputs
    test: Outputs
    background: Outputs | None
    val_rows: IntArray
    kept: IntArray
    left_out: IntArray
    targets: IntArray  # of the test images, among all K classes
    names: tuple[str, ...]

    @classmethod
    def of(cls, stored: Stored, left_out: IntArray, names: tuple[str, ...], probe: ProbeSettings) -> _Fold:
        train, val, head = refitted(stored.train, stored.val, left_out, probe)
        kept = np.setdiff1d(np.arange(len(names)), left_out)
        background = None if stored.background is None else with_head(stored.background, head, kept)
        val_rows = np.flatnonzero(np.isin(stored.val.labels, kept))
        test = with_head(stored.test, head, kept)
        return cls(
            train, val, test, background, val_rows, kept, left_out, np.asarray(stored.test.labels), names
        )

    def accuracies(self, test: Outputs) -> tuple[float, float]:
        """Of the network's own head without the columns left out, and of the head of this fold."""
        known = np.flatnonzero(self.test.labels >= 0)
        own = test.logits[known][:, self.kept].argmax(axis=1) == self.test.labels[known]
        return float(own.mean()), float(self.test.correct[known].mean())

    def judge(
        self, detector: Detector, beside: Sequence[Detector], threshold_of: ThresholdOf
    ) -> tuple[list[tuple[UnknownClass, dict[str, float]]], float]:
        """Each class left out with its metrics, and the share of the known test images accepted."""
        detector.fit(self.train, beside=beside)
        background = None if self.background is None else detector.score(self.background)
        val_scores = detector.score(self.val)
        threshold = threshold_of(val_scores, background, self.val_rows).value
        others = {
            rejection_name(share): fit_threshold(val_scores, target_acceptance=share).value
            for share in ACCEPTANCES
        }
        scores, known = detector.score(self.test), self.test.labels >= 0
        unknowns = Unknowns(
            np.searchsorted(self.left_out, self.targets[~known]),
            tuple(("", self.names[number]) for number in self.left_out),
        )
        rows = unknown_classes(
            threshold,
            scores[known],
            scores[~known],
            unknowns=unknowns,
            predictions=self.test.predictions[~known],
            known_names=tuple(self.names[number] for number in self.kept),
        )
        found = []
        for row in rows:
            own = scores[~known][unknowns.classes == unknowns.names.index((row.source, row.name))]
            headline = headline_metrics(count_accepted(scores[known], self.test.correct[known], own))
            values = {**headline, "unknown_rejection": 1 - row.accepted}
            values = {name: values[name] for name in METRICS}
            values |= {name: float(np.mean(own > theta)) for name, theta in others.items()}
            found.append((replace(row, source="left out"), values))
        return found, float(np.mean(scores[known] <= threshold))
