"""Which detector judges new images, by known classes that were left out in turn. Higher AUROC = better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osr.errors import InputError
from osr.estimation.rejection import Estimate
from osr.metrics.intervals import class_mean_with_ends

_DRAWS = 2000


@dataclass(frozen=True)
class Ranked:
    """One detector in the ranking.

    Args:
        detector: its name.
        auroc: mean over the classes left out.
        low, high: the interval over classes.
        behind: mean over the classes of how far its AUROC is below that of the first, 0 or more.
        error: standard error of `behind`, the differences class by class.
        size: numbers that the fitted detector holds.
    """

    detector: str
    auroc: float
    low: float
    high: float
    behind: float
    error: float
    size: int


@dataclass(frozen=True)
class Choice:
    """The detector that judges.

    Args:
        detector: the cheapest of `alike`.
        alike: those that do not differ: no more than a standard error behind the first; the first is one.
        ranking: all detectors, the largest mean AUROC first.
        sure: share of draws of classes, with replacement, in which one of `alike` comes first.
        classes: how many were left out.
    """

    detector: str
    alike: Sequence[str]
    ranking: Sequence[Ranked]
    sure: float
    classes: int


def choose(found: Estimate, *, confidence: float, seed: int) -> Choice:
    """The cheapest of the detectors that are not told apart from the best.

    One standard error behind, class by class, is what chance gives (Breiman et al. 1984, their rule for the
    smallest tree). Cheap is what holds few numbers when it is fitted: it is what grows with the work that an
    image takes, and, unlike time, it is the same on every machine. Of equally cheap ones the better is taken.

    Args:
        found: of leaving classes out.
        confidence: of the intervals over classes.
        seed: of the draws.

    Raises:
        InputError: no detector has an estimate, and why.
    """
    if not found.classes:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.left_out.items())
        raise InputError(f"No detector can be chosen, as none has an estimate: {reasons}")
    by_class = {
        name: {row.row.name: row.values["auroc"] for row in rows} for name, rows in found.classes.items()
    }
    classes = sorted(next(iter(by_class.values())))
    names = list(by_class)
    aurocs = np.array([[by_class[name][label] for label in classes] for name in names])
    order = np.argsort(-aurocs.mean(axis=1), kind="stable")
    gaps = aurocs[order[0]] - aurocs
    errors = gaps.std(axis=1, ddof=1) / np.sqrt(len(classes))
    ranking = [
        Ranked(
            names[place],
            *class_mean_with_ends(aurocs[place], confidence=confidence),
            behind=float(gaps[place].mean()),
            error=float(errors[place]),
            size=found.sizes[names[place]],
        )
        for place in order
    ]
    alike = [entry for entry in ranking if entry.behind <= entry.error]
    chosen = min(alike, key=lambda entry: (entry.size, entry.behind))
    return Choice(
        chosen.detector,
        [entry.detector for entry in alike],
        ranking,
        _share_first(aurocs, [names.index(entry.detector) for entry in alike], seed),
        len(classes),
    )


def _share_first(values: NDArray[np.float64], alike: Sequence[int], seed: int) -> float:
    """How often one of `alike` has the largest mean of (detectors, classes), for classes that are drawn."""
    draws = np.random.default_rng(seed).integers(values.shape[1], size=(_DRAWS, values.shape[1]))
    means = values[:, draws].mean(axis=2)
    best = means[list(alike)].max(axis=0)
    return float(np.mean(best >= means.max(axis=0)))
