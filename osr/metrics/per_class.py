"""One class at a time: how each known class fares, and which unknown class is taken for which known one.

Higher score = more unknown; accept as known when s <= theta. K stands for known test images, U for unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.calibration.probabilities import checked_classes
from osr.errors import InputError
from osr.metrics.thresholds import checked_scores

Array = NDArray[Any]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class KnownClass:
    """A known class against everything else, one detector, one threshold. NaN where nothing can be divided.

    Args:
        name: of the class.
        images: test images of the class.
        accuracy: share of them whose class is predicted right, whatever the score says.
        acceptance: share accepted as known, of whatever class.
        recall: share accepted and right.
        precision: share of right ones among all test images accepted as this class, unknowns too.
        true_positive, false_positive, false_negative, true_negative: images, "accepted as this class" being
            positive: the 2 x 2 confusion matrix of the class.
        acceptance_low, acceptance_high: the interval of the acceptance.
    """

    name: str
    images: int
    accuracy: float
    acceptance: float
    recall: float
    precision: float
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    acceptance_low: float = math.nan
    acceptance_high: float = math.nan


@dataclass(frozen=True)
class UnknownClass:
    """An unknown class against all of K, one detector, one threshold.

    Args:
        source: name of the unknown set that it belongs to.
        name: of the class.
        images: test images of the class.
        auroc: P(s_U > s_K) + P(s_U = s_K) / 2 with its images alone as U.
        accepted: share of its images that are accepted as known.
        mistaken_for: the known class that most of the accepted images are taken for; empty without any.
        mistaken_share: share of all its images that are accepted as that class.
        nearest: the known class that most of its images are predicted as, whatever the score says.
        nearest_share: share of its images predicted as that class.
    """

    source: str
    name: str
    images: int
    auroc: float
    accepted: float
    mistaken_for: str
    mistaken_share: float
    nearest: str
    nearest_share: float


@dataclass(frozen=True)
class Unknowns:
    """What the unknown test images are.

    Args:
        classes: (n_U,) int, position in `names` of each image's class.
        names: of the unknown classes, (source, class) each; a class may have no image.

    Raises:
        InputError: a class outside `names`.
    """

    classes: IntArray
    names: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        if len(self.classes) and not 0 <= self.classes.min() <= self.classes.max() < len(self.names):
            raise InputError(
                f"Classes of unknown images must lie in 0..{len(self.names) - 1}, "
                f"but span {self.classes.min()}..{self.classes.max()}."
            )

    def of_source(self, source: str) -> NDArray[np.bool_]:
        """(n_U,) bool, which images belong to an unknown set."""
        return np.array([name == source for name, _ in self.names], dtype=np.bool_)[self.classes]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the unknown sets that have images, in the order of `names`."""
        return tuple(dict.fromkeys(self.names[code][0] for code in np.unique(self.classes)))


def known_classes(
    confusion: IntArray, *, labels: ArrayLike, predictions: ArrayLike, names: tuple[str, ...]
) -> list[KnownClass]:
    """Every known class at the threshold of a confusion matrix, in label order.

    Args:
        confusion: (K + 1, K + 1), from `osr.metrics.decisions.confusion_matrix`.
        labels: (n_K,) int in 0..K-1.
        predictions: (n_K,) int in 0..K-1, whatever the score says.
        names: of the K known classes.

    Raises:
        InputError: a class outside its range, or lengths disagree.
    """
    count = len(names)
    if confusion.shape != (count + 1, count + 1):
        raise InputError(f"{count} names need a confusion matrix of {count + 1} rows, not {confusion.shape}.")
    truth = checked_classes(labels, np.size(labels), count, name="labels of known images")
    predicted = checked_classes(predictions, len(truth), count, name="predictions of known images")
    right = np.bincount(truth[truth == predicted], minlength=count)
    hits, images = confusion.diagonal()[:-1], confusion.sum(axis=1)[:-1]
    verdicts = confusion.sum(axis=0)[:-1]
    accuracy, acceptance, recall = (
        _shares(part, images) for part in (right, confusion[:-1, :-1].sum(axis=1), hits)
    )
    precision, total = _shares(hits, verdicts), int(confusion.sum())
    return [
        KnownClass(
            name=name,
            images=int(images[code]),
            accuracy=float(accuracy[code]),
            acceptance=float(acceptance[code]),
            recall=float(recall[code]),
            precision=float(precision[code]),
            true_positive=int(hits[code]),
            false_positive=int(verdicts[code] - hits[code]),
            false_negative=int(images[code] - hits[code]),
            true_negative=total - int(images[code] + verdicts[code] - hits[code]),
        )
        for code, name in enumerate(names)
    ]


def unknown_classes(
    threshold: ArrayLike,
    known_scores: ArrayLike,
    unknown_scores: ArrayLike,
    *,
    unknowns: Unknowns,
    predictions: ArrayLike,
    known_names: tuple[str, ...],
) -> list[UnknownClass]:
    """Every unknown class that has test images, the one with the lowest AUROC first.

    K is sorted once for all classes.

    Args:
        threshold: theta, or (n_U,) that of each unknown image.
        known_scores: (n_K,) real.
        unknown_scores: (n_U,) real.
        unknowns: the class of each unknown image.
        predictions: (n_U,) int in 0..K-1, the predicted known class of the unknown images.
        known_names: of the K known classes.

    Raises:
        InputError: a NaN among the scores, a class outside its range, or lengths disagree.
    """
    known = np.sort(checked_scores(known_scores, name="scores of known test images"))
    unknown = checked_scores(unknown_scores, name="scores of unknown test images")
    count = len(known_names)
    predicted = checked_classes(predictions, len(unknown), count, name="predictions of unknown images")
    classes = unknowns.classes
    if classes.shape != unknown.shape:
        raise InputError(f"{len(unknown)} unknown images need as many classes, not {classes.shape}.")
    below = np.searchsorted(known, unknown, side="left") + np.searchsorted(known, unknown, side="right")
    places = np.zeros((2, len(unknowns.names), count), dtype=np.int64)  # all images, then accepted ones
    accepted = unknown <= np.asarray(threshold)
    for table, chosen in zip(places, (np.full(len(unknown), True), accepted), strict=True):
        np.add.at(table, (classes[chosen], predicted[chosen]), 1)
    areas = np.bincount(classes, weights=below, minlength=len(unknowns.names)) / (2 * len(known))
    found = [
        _unknown_class(name, float(areas[code]), places[0, code], places[1, code], known_names)
        for code, name in enumerate(unknowns.names)
        if places[0, code].any()
    ]
    return sorted(found, key=lambda row: (row.auroc, row.source, row.name))


def _unknown_class(
    name: tuple[str, str], area: float, predicted: IntArray, accepted: IntArray, known_names: tuple[str, ...]
) -> UnknownClass:
    """One class from its sum of shares of K below each image, and its images per predicted known class."""
    images, nearest, mistaken = int(predicted.sum()), int(predicted.argmax()), int(accepted.argmax())
    return UnknownClass(
        source=name[0],
        name=name[1],
        images=images,
        auroc=area / images,
        accepted=int(accepted.sum()) / images,
        mistaken_for=known_names[mistaken] if accepted.any() else "",
        mistaken_share=int(accepted[mistaken]) / images,
        nearest=known_names[nearest],
        nearest_share=int(predicted[nearest]) / images,
    )


def _shares(counts: Array, totals: Array) -> FloatArray:
    shares: FloatArray = np.divide(counts, totals, out=np.full(len(counts), np.nan), where=totals > 0)
    return shares
