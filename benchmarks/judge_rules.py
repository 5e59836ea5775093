"""Ways to choose a detector, or a few whose scores are put together, from scores of known images alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from benchmarks.judge_scores import Scores
from osr.metrics.delong import auroc_covariance

Floats = NDArray[np.float64]
Rule = Callable[[Scores], Sequence[int]]
Scale = Callable[[Floats, Floats], Floats]


def by_class(scores: Scores, head: str = "refitted", more: Callable[[Floats, Floats], Floats] | None = None):
    """(M, K) AUROC of the validation images of each class against those of the other folds' classes.

    With `more`, a function of all scores and those of the knowns, (1, K) of what it makes of them.
    """
    found = []
    folds = scores.cluster if head == "clustered" else scores.left_out
    for label, fold in enumerate(folds):
        part = getattr(scores, head)[fold]
        known = folds[scores.val_labels] != fold
        if more is not None:
            part = more(part, part[:, known])
        found.append(auroc_covariance(part[:, known], part[:, scores.val_labels == label])[0])
    return np.stack(found, axis=1)


def against(scores: Scores, stand_ins: Floats) -> Floats:
    """(M,) AUROC of stand-ins against validation knowns."""
    return auroc_covariance(scores.val, stand_ins)[0]


def ranks(aurocs: Floats) -> Floats:
    """(M,) mean over the columns of the place of each row, 0 the best."""
    from scipy.stats import rankdata

    return rankdata(-aurocs, axis=0).mean(axis=1) - 1


def cheapest_alike(scores: Scores, aurocs: Floats, errors: float = 1.0) -> list[int]:
    """The one that holds least of those that are no more than so many standard errors behind the first."""
    gaps = aurocs[aurocs.mean(axis=1).argmax()] - aurocs
    behind, error = gaps.mean(axis=1), gaps.std(axis=1, ddof=1) / np.sqrt(gaps.shape[1])
    alike = np.flatnonzero(behind <= errors * error)
    return [min(alike, key=lambda row: (scores.sizes[row], behind[row]))]


def top(values: Floats, count: int) -> list[int]:
    """The rows of the largest values."""
    return np.argsort(-values, kind="stable")[:count].tolist()


def mid_ranks(values: Floats, reference: Floats) -> Floats:
    """(M, n) shares of the reference (M, r) below each value, ties half, never 0 or 1."""
    found = []
    for row, known in zip(values, np.sort(reference, axis=1), strict=True):
        places = np.searchsorted(known, row) + np.searchsorted(known, row, side="right")
        found.append((places + 1) / (2 * len(known) + 2))
    return np.stack(found)


SCALES: dict[str, Scale] = {
    "ranks": mid_ranks,
    "normal": lambda values, reference: ndtri(mid_ranks(values, reference)),
    "fisher": lambda values, reference: -np.log(1 - mid_ranks(values, reference)),
    "z": lambda values, reference: (
        (values - reference.mean(1, keepdims=True)) / np.maximum(reference.std(1, keepdims=True), 1e-300)
    ),
}


def together(values: Floats, reference: Floats, scale: str) -> Floats:
    """(1, n), the mean of (M, n) scores on one scale."""
    return SCALES[scale](values, reference).mean(axis=0, keepdims=True)


def greedy(scores: Scores, scale: str, most: int = 5) -> list[int]:
    """Members added one by one, also again, while the mean AUROC over classes grows."""
    members: list[int] = []
    best = 0.0
    scaled = []
    for label, fold in enumerate(scores.left_out):
        part, known = scores.refitted[fold], scores.left_out[scores.val_labels] != fold
        values = SCALES[scale](part, part[:, known])
        scaled.append((values[:, known], values[:, scores.val_labels == label]))
    sums = [(0.0, 0.0) for _ in scaled]
    while len(members) < most:
        means = np.mean(
            [
                auroc_covariance(known + before[0], unknown + before[1])[0]
                for (known, unknown), before in zip(scaled, sums, strict=True)
            ],
            axis=0,
        )
        if means.max() <= best:
            break
        best = means.max()
        members.append(int(means.argmax()))
        row = members[-1]
        sums = [
            (before[0] + known[row], before[1] + unknown[row])
            for (known, unknown), before in zip(scaled, sums, strict=True)
        ]
    return members


def named(*names: str) -> Rule:
    """Always these, as far as they are there."""
    return lambda scores: [scores.names.tolist().index(name) for name in names if name in scores.names]


RULES: dict[str, Rule] = {
    "maxlogit": named("maxlogit"),
    "always knn": named("knn"),
    "always mahalanobis": named("mahalanobis"),
    "always vim": named("vim"),
    "first of the ranking": lambda s: top(by_class(s).mean(1), 1),
    "cheapest within one error": lambda s: cheapest_alike(s, by_class(s)),
    "similar classes together, first": lambda s: top(by_class(s, "clustered").mean(1), 1),
    "both ways of leaving out, first": lambda s: top((by_class(s) + by_class(s, "clustered")).mean(1), 1),
    "columns removed, first": lambda s: top(by_class(s, "removed").mean(1), 1),
    "columns removed, cheapest within one error": lambda s: cheapest_alike(s, by_class(s, "removed")),
    "mean rank over classes": lambda s: top(-ranks(by_class(s)), 1),
    "worst class": lambda s: top(by_class(s).min(1), 1),
    "median class": lambda s: top(np.median(by_class(s), axis=1), 1),
    "mixed features": lambda s: top(against(s, s.mixed), 1),
    "swapped features": lambda s: top(against(s, s.swapped), 1),
    "mean rank of classes and mixed": lambda s: top(
        -ranks(np.column_stack([by_class(s).mean(1), against(s, s.mixed)])), 1
    ),
}
for _scale in SCALES:
    for _count in (2, 3, 5):
        RULES[f"first {_count}, {_scale}"] = lambda s, count=_count: top(by_class(s).mean(1), count)
    RULES[f"greedy, {_scale}"] = lambda s, scale=_scale: greedy(s, scale)
