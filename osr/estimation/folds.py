"""Which known classes are left out together, and the outputs of a network that does without them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from osr.detectors.chunks import Images
from osr.detectors.classes import class_means, gather_classes
from osr.errors import InputError
from osr.outputs import UNKNOWN, FloatArray, IntArray, Outputs
from osr.training.probe import best_of, fit_probes
from osr.training.settings import ProbeSettings

FEWEST_CLASSES = 3  # one is left out, and two must remain to be told apart


def class_folds(num_classes: int, num_folds: int, *, seed: int) -> list[IntArray]:
    """Classes 0..K-1 in parts of nearly the same size, each class in one of them, drawn at random.

    Args:
        num_classes: K, at least 3.
        num_folds: at least 2; more are made where fewer than two classes would remain beside a part, and
            fewer where there are not as many classes.
        seed: of the draw.

    Raises:
        InputError: fewer than 3 classes or 2 folds.
    """
    _check(num_classes, num_folds)
    count = min(num_folds, num_classes)
    while num_classes - math.ceil(num_classes / count) < 2:
        count += 1
    order = np.random.default_rng(seed).permutation(num_classes)
    return [np.sort(part) for part in np.array_split(order, count)]


def similar_folds(train: Outputs, num_folds: int) -> list[IntArray]:
    """Classes 0..K-1 in parts of similar ones, each class in one of them; nothing is drawn.

    Ward's clusters of the class means of features that are divided by their length. An unknown class then
    has none of its kind among those that remain, as is the rule for classes that nobody thought of; left out
    one by one or at random most have, and scores that tell classes apart look better than they are.

    Args:
        train: outputs of the training images of K classes, at least 3.
        num_folds: at least 2; fewer parts are made of fewer than twice as many classes, and more where fewer
            than two classes would remain beside a part.

    Raises:
        InputError: fewer than 3 classes or 2 folds, or a class without images.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    num_classes = train.num_classes
    _check(num_classes, num_folds)
    known = np.asarray(train.labels >= 0)
    images = Images(train, None if known.all() else known, torch.device("cpu"), unit=True)
    found = gather_classes(images, "features", correct_only=False)
    means = class_means(found["sums"], found["counts"], detector="leaving classes out")
    tree = linkage(means.numpy(), "ward")
    for count in range(min(num_folds, max(2, num_classes // 2)), num_classes + 1):
        codes = fcluster(tree, count, "maxclust")
        parts = [np.flatnonzero(codes == code) for code in np.unique(codes)]
        if max(map(len, parts)) <= num_classes - 2:
            break
    return parts


def _check(num_classes: int, num_folds: int) -> None:
    if num_classes < FEWEST_CLASSES or num_folds < 2:
        raise InputError(
            f"Leaving classes out needs at least {FEWEST_CLASSES} classes and 2 folds, not {num_classes} and "
            f"{num_folds}."
        )


@dataclass(frozen=True)
class Head:
    """Logits are `features @ weight.T + bias`.

    Args:
        weight: (K, D) float32.
        bias: (K,) float32; zeros without one.
    """

    weight: FloatArray
    bias: FloatArray


def refitted(
    train: Outputs, val: Outputs, left_out: IntArray, settings: ProbeSettings
) -> tuple[Outputs, Outputs, Head]:
    """The training and validation outputs of the other classes, with a head that never saw those left out.

    Args:
        train: of known images; background ones are passed over.
        val: the same, not trained on; they choose the penalty of the head.
        left_out: ids of known classes.
        settings: of the logistic regression that is the head; it has a bias if the network's own has one.

    Raises:
        InputError: the regression does not converge.
    """
    kept = np.setdiff1d(np.arange(train.num_classes), left_out)
    rest = [part.select(np.flatnonzero(np.isin(part.labels, kept))) for part in (train, val)]
    images = [(np.asarray(part.features, np.float32), np.searchsorted(kept, part.labels)) for part in rest]
    has_bias = bool(np.any(train.bias))
    fits = fit_probes(*images, num_classes=len(kept), bias=has_bias, settings=settings)
    best = fits[best_of(fits)]
    head = Head(best.weight.astype(np.float32), best.bias.astype(np.float32))
    fitted, judged = (with_head(part, head, kept) for part in rest)
    return fitted, judged, head


def with_head(outputs: Outputs, head: Head, kept: Sequence[int] | IntArray) -> Outputs:
    """The same images and features under a head of the classes `kept`; images of all others are unknown."""
    codes = np.full(outputs.num_classes, UNKNOWN, dtype=np.int64)
    codes[np.asarray(kept)] = np.arange(len(kept))
    labels = np.where(outputs.labels >= 0, codes[np.maximum(outputs.labels, 0)], outputs.labels)
    return replace(
        outputs,
        logits=np.asarray(outputs.features @ head.weight.T + head.bias, dtype=np.float32),
        labels=labels,
        weight=head.weight,
        bias=head.bias,
        extra_logits=np.empty((len(outputs), 0), np.float32),
        odin=np.empty((len(outputs), 0)),
    )
