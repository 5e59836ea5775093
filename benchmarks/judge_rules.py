"""Ways to choose a detector, or a few whose scores are put together, from scores of known images alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge_scores import Scores
from osr.estimation.choice import choice_of
from osr.metrics.delong import auroc_covariance

Floats = NDArray[np.float64]
Rule = Callable[[Scores], Sequence[int]]


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


def trusted(scores: Scores, head: str, several: Sequence[str] = ()) -> list[int]:
    """What the library takes (`choice_of`) with an ensemble of `several`; without, mahalanobis is trusted.

    In a fold the ensemble's scale is that of the validation knowns; the library takes the training images'.
    """
    aurocs, names, members = by_class(scores, head), scores.names.tolist(), named(*several)(scores)
    if several:
        more = by_class(scores, head, lambda values, known: together(values[members], known[members]))
        aurocs, names = np.vstack([aurocs, more]), [*names, "ensemble"]
    choice = choice_of(names, aurocs, confidence=0.95, seed=0, seen=False)
    if not several and "mahalanobis" in choice.alike:
        return [names.index("mahalanobis")]
    return list(members) if choice.detector == "ensemble" else [names.index(choice.detector)]


def by_regime(scores: Scores, regime: str) -> list[int]:
    """What the library takes now: where the network learned, `LEARNED`, whatever the left-out classes say."""
    if regime == "frozen":
        return trusted(scores, "clustered", STURDY)
    return list(named(*LEARNED)(scores))


def top(values: Floats, count: int) -> list[int]:
    """The rows of the largest values."""
    return np.argsort(-values, kind="stable")[:count].tolist()


def together(values: Floats, reference: Floats) -> Floats:
    """(1, n), the mean of (M, n) scores on the scale of known images (M, r), as `Ensemble` does."""
    centre, deviation = reference.mean(axis=1, keepdims=True), reference.std(axis=1, keepdims=True)
    return ((values - centre) / deviation).mean(axis=0, keepdims=True)


def named(*names: str) -> Rule:
    """Always these, as far as they are there."""
    return lambda scores: [scores.names.tolist().index(name) for name in names if name in scores.names]


STURDY = ("mahalanobis", "rmds", "vim")
LEARNED = ("maxlogit", "rmds", "vim")
RULES: dict[str, Rule] = {
    "trusted unless another is better": lambda s: trusted(s, "clustered"),
    "the same, with an ensemble": lambda s: trusted(s, "clustered", STURDY),
    "the same, classes left out at random": lambda s: trusted(s, "refitted", STURDY),
    "maxlogit": named("maxlogit"),
    "always knn": named("knn"),
    "always mahalanobis": named("mahalanobis"),
    "always vim": named("vim"),
    "always the ensemble": named(*STURDY),
    "always the ensemble of learned networks": named(*LEARNED),
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
for _count in (2, 3, 5):
    RULES[f"mean of the first {_count}"] = lambda s, count=_count: top(by_class(s).mean(1), count)
    RULES[f"similar classes together, mean of the first {_count}"] = lambda s, count=_count: top(
        by_class(s, "clustered").mean(1), count
    )
