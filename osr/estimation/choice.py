"""Which detector judges new images, by known classes that were left out in turn. Higher AUROC = better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from osr.errors import InputError
from osr.estimation.rejection import Estimate
from osr.metrics.intervals import class_mean_with_ends

# What judges unless another is better beyond chance, and always where the network was trained on the
# classes that are left out: of the rules that were tried the one with the smallest regret (docs/log.md). A
# few classes that are left out seldom show more, and those that a network has seen next to nothing.
TRUSTED = "ensemble"
_DRAWS = 2000


@dataclass(frozen=True)
class Ranked:
    """One detector in the ranking.

    Args:
        detector: its name.
        auroc: mean over the classes left out.
        low, high: the interval over classes.
        behind: mean over the classes of how far its AUROC is below that of the first, 0 or more.
        margin: half the width of the interval of `behind`, from the differences class by class.
    """

    detector: str
    auroc: float
    low: float
    high: float
    behind: float
    margin: float


@dataclass(frozen=True)
class Choice:
    """The detector that judges.

    Args:
        detector: `TRUSTED` if it is among `alike`, or there at all where the network has `seen` the classes;
            else the first of the ranking.
        alike: those that do not differ: behind the first by no more than the margin; the first is one.
        ranking: all detectors, the largest mean AUROC first.
        sure: share of draws of classes, with replacement, in which none has a larger mean than it; 0 without
            any.
        classes: how many were left out.
        seen: whether the network was trained on them.
    """

    detector: str
    alike: Sequence[str]
    ranking: Sequence[Ranked]
    sure: float
    classes: int
    seen: bool


def without_evidence(enabled: Sequence[str], *, seen: bool) -> Choice | None:
    """`TRUSTED`, which judges where no class can be left out; None where it is not enabled."""
    return Choice(TRUSTED, [TRUSTED], [], sure=0.0, classes=0, seen=seen) if TRUSTED in enabled else None


def choose(found: Estimate, *, confidence: float, seed: int, seen: bool) -> Choice:
    """The detector that judges, from classes that were left out.

    Args:
        found: of leaving classes out.
        confidence: of the intervals over classes.
        seed: of the draws.
        seen: whether the network was trained on the classes that were left out.

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
    aurocs = np.array([[by_class[name][label] for label in classes] for name in by_class])
    return choice_of(list(by_class), aurocs, confidence=confidence, seed=seed, seen=seen)


def choice_of(
    names: Sequence[str], aurocs: NDArray[np.float64], *, confidence: float, seed: int, seen: bool
) -> Choice:
    """The same from the AUROC of each class.

    Args:
        names: of M detectors.
        aurocs: (M, K) in 0..1, of at least two classes left out.
        confidence: of the intervals over classes: Student's, of paired differences.
        seed: of the draws.
        seen: whether the network was trained on them.
    """
    num_classes = aurocs.shape[1]
    order = np.argsort(-aurocs.mean(axis=1), kind="stable")
    gaps = aurocs[order[0]] - aurocs
    quantile = float(student.ppf((1 + confidence) / 2, num_classes - 1))
    margins = quantile * gaps.std(axis=1, ddof=1) / np.sqrt(num_classes)
    ranking = [
        Ranked(
            names[place],
            *class_mean_with_ends(aurocs[place], confidence=confidence),
            behind=float(gaps[place].mean()),
            margin=float(margins[place]),
        )
        for place in order
    ]
    alike = [entry.detector for entry in ranking if entry.behind <= entry.margin]
    chosen = TRUSTED if TRUSTED in (names if seen else alike) else alike[0]
    sure = _share_first(aurocs, names.index(chosen), seed)
    return Choice(chosen, alike, ranking, sure, num_classes, seen)


def _share_first(aurocs: NDArray[np.float64], row: int, seed: int) -> float:
    """How often none of (M, K) has a larger mean than a row, for classes that are drawn."""
    draws = np.random.default_rng(seed).integers(aurocs.shape[1], size=(_DRAWS, aurocs.shape[1]))
    means = aurocs[:, draws].mean(axis=2)
    return float(np.mean(means[row] >= means.max(axis=0)))
