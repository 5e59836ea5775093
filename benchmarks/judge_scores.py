"""Scores of every detector on one setting: of the whole network, and with known classes left out.

Higher = more unknown. `Scores` holds all that a rule of choosing may look at, and the truth beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.judge_settings import Prepared
from osr.detectors.registry import DETECTORS, build_detectors
from osr.errors import InputError
from osr.estimation.folds import Head, class_folds, refitted, similar_folds, with_head
from osr.metrics.delong import auroc_covariance
from osr.metrics.groups import Groups
from osr.outputs import IntArray, Outputs

# odin needs the network again, kplus1 an extra class, and the ensemble is made from the others' scores.
NAMES = tuple(name for name in DETECTORS if name not in ("odin", "kplus1", "ensemble"))
FOLDS = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Of M detectors.

    Args:
        names: of the M detectors.
        sizes: (M,) numbers that each holds.
        train: (M, n) of the training images.
        val: (M, n) of validation knowns, `val_labels` (n,).
        test: (M, N) of test images, `test_labels` (N,), -1 unknown; `groups` (N,), or (0,) without.
        mixed: (M, n) of the means of two validation images' features, of different classes.
        swapped: (M, n) of features of which each is one of two such images', at even chance.
        left_out: (K,) the fold in which each class plays unknown.
        refitted: (F, M, n) of validation knowns when the classes of a fold are left out, under a head that is
            fitted to the others.
        removed: the same under the network's own head without the columns of these classes.
        cluster: (K,) as `left_out` where similar classes play unknown together, and `clustered` the scores
            with a head that is fitted to the others.
        accuracy: on known test images.
    """

    names: NDArray[np.str_]
    sizes: IntArray
    train: Floats
    val: Floats
    val_labels: IntArray
    test: Floats
    test_labels: IntArray
    groups: IntArray
    mixed: Floats
    swapped: Floats
    left_out: IntArray
    refitted: Floats
    removed: Floats
    cluster: IntArray
    clustered: Floats
    accuracy: Floats

    def save(self, path: Path) -> None:
        """Write one .npz file."""
        with path.open("wb") as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(**stored)

    def truth(self, more: Floats | None = None) -> tuple[Floats, Floats]:
        """(M,) AUROC against the true unknowns and (M, M) its covariance; `more` (1, N) stands last."""
        scores = self.test if more is None else np.vstack([self.test, more])
        known = self.test_labels >= 0
        groups = Groups.of(self.groups if len(self.groups) else None, self.test_labels)
        return auroc_covariance(scores[:, known], scores[:, ~known], groups=groups)


def scores_of(found: Prepared, title: str, *, removing: bool) -> Scores:
    """Fit and score every detector on the whole and each fold; `removed` stays empty without `removing`."""
    detectors = found.params.detectors.model_copy(update={"enabled": NAMES})
    train, val, test = found.train, found.val, found.test
    mixed, swapped = stand_ins(val, np.random.default_rng(0))
    sizes: dict[str, int] = {}
    whole_parts = {"train": train, "val": val, "test": test, "mixed": mixed, "swapped": swapped}
    whole = _scores(detectors, train, whole_parts, sizes)
    folds = {
        "left_out": class_folds(train.num_classes, FOLDS, seed=0),
        "cluster": similar_folds(train, FOLDS),
    }
    by_head: dict[str, list[Mapping[str, Floats]]] = {"refitted": [], "removed": [], "clustered": []}
    for design, parts in folds.items():
        for classes in tqdm(parts, desc=f"{title}, {design}", disable=None):
            kept = np.setdiff1d(np.arange(train.num_classes), classes)
            fitted, _, head = refitted(train, val, classes, found.params.train.probe)
            scores = _fold(detectors, fitted, with_head(val, head, kept))
            by_head["clustered" if design == "cluster" else "refitted"].append(scores)
            if design == "cluster" or not removing:
                continue
            own = Head(train.weight[kept], train.bias[kept])
            fitted = with_head(train.select(np.isin(train.labels, kept)), own, kept)
            by_head["removed"].append(_fold(detectors, fitted, with_head(val, own, kept)))
    names = [name for name in whole["val"] if all(name in fold for part in by_head.values() for fold in part)]
    return Scores(
        names=np.array(names),
        sizes=np.array([sizes[name] for name in names]),
        **{part: np.stack([scores[name] for name in names]) for part, scores in whole.items()},
        val_labels=np.asarray(val.labels),
        test_labels=np.asarray(test.labels),
        groups=np.empty(0, np.int64) if found.groups is None else found.groups,
        **{design: _numbers(parts) for design, parts in folds.items()},
        **{
            head: np.array([[fold[name] for name in names] for fold in parts])
            for head, parts in by_head.items()
        },
        accuracy=np.array(found.accuracy),
    )


def _numbers(folds: Sequence[IntArray]) -> IntArray:
    """(K,) the fold of each class."""
    found = np.empty(sum(map(len, folds)), np.int64)
    for number, classes in enumerate(folds):
        found[classes] = number
    return found


def _scores(
    settings: object, train: Outputs, parts: Mapping[str, Outputs], sizes: dict[str, int]
) -> dict[str, dict[str, Floats]]:
    """Part -> detector -> scores; a detector that cannot be fitted is named and left out."""
    found: dict[str, dict[str, Floats]] = {part: {} for part in parts}
    for name, detector in build_detectors(settings).items():
        try:
            detector.fit(train)
            scored = {part: detector.score(outputs) for part, outputs in parts.items()}
        except InputError as error:
            print(f"{name}: {error}", flush=True)
            continue
        sizes[name] = sum(array.numel() for array in detector._state.values())
        for part, scores in scored.items():
            found[part][name] = scores
    return found


def _fold(settings: object, train: Outputs, val: Outputs) -> dict[str, Floats]:
    return _scores(settings, train, {"val": val}, {})["val"]


def stand_ins(val: Outputs, rng: np.random.Generator) -> tuple[Outputs, Outputs]:
    """Two kinds of mixtures of validation knowns of different classes, as many as there are images."""
    first = np.arange(len(val))
    second = rng.permutation(first)
    while (alike := val.labels[first] == val.labels[second]).any():
        second[alike] = rng.integers(len(val), size=int(alike.sum()))
    pair = val.features[first], val.features[second]
    chosen = rng.random(val.features.shape) < 0.5
    return _mixture(val, (pair[0] + pair[1]) / 2), _mixture(val, np.where(chosen, *pair))


def _mixture(val: Outputs, features: NDArray[np.float32]) -> Outputs:
    logits = np.asarray(features @ val.weight.T + val.bias, np.float32)
    labels = np.full(len(val), -1, np.int64)
    return Outputs(logits, features, labels, np.asarray(val.index), val.weight, val.bias)
