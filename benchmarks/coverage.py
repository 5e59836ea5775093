"""How often the 95 % intervals of `bootstrap_intervals`, and those of percentiles, hold the truth.

Run: OMP_NUM_THREADS=1 python -m benchmarks.coverage [--populations normal tied wide mixed skewed] [--groups]
Images a side are drawn from populations whose metrics are known. Accuracy needs no draws: its coverage is the
sum of the binomial probabilities of the counts whose interval holds it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import binom

from osr.metrics.bootstrap import bootstrap_intervals
from osr.metrics.groups import Groups
from osr.metrics.metric_ends import SHARE, Units, metric_ends
from osr.metrics.open_set import open_set_metrics
from osr.metrics.statistics import share_ends

CONFIDENCE = 0.95
VALUES = (0.75, 0.9, 0.97, 0.99, 0.998, 1.0)
RATES = (0.25, 0.1, 0.03, 0.01, 0.002, 0.0)
SIZES = (5, 20, 50, 500)  # images a side
HEAD = f"| metric | value | {' | '.join(f'n = {size}' for size in SIZES)} |\n|---|---:|{'---:|' * len(SIZES)}"
GRID = (np.arange(20_000) + 0.5) / 20_000  # a population as its quantiles
FPR = "fpr_at_95tpr_known"
GROUPED = ("auroc", "auoscr", FPR, "accuracy")


@dataclass(frozen=True)
class Population:
    """Scores of known and unknown images as functions of a uniform number.

    Args:
        known: of (n,) in 0..1.
        unknown: of (n,) in 0..1 and the number that makes unknowns stand out.
        bracket: of that number.
        perfect: that number where no unknown lies below a known image.
    """

    known: Callable[[np.ndarray], np.ndarray]
    unknown: Callable[[np.ndarray, float], np.ndarray]
    bracket: tuple[float, float]
    perfect: float

    def at(self, metric: str, value: float) -> tuple[float, float]:
        """The number at which a metric has a value, and the accuracy that goes with it."""
        accuracy = float(np.sqrt(value)) if metric == "auoscr" else 1.0
        if value in (0.0, 1.0) and (metric == FPR) == (value == 0.0):
            return self.perfect, accuracy

        def miss(shift: float) -> float:
            return self.truth(metric, shift, accuracy) - value

        return float(brentq(miss, *self.bracket, xtol=1e-4)), accuracy

    def truth(self, metric: str, shift: float, accuracy: float) -> float:
        """The metric of the whole population, whose predicted classes do not depend on the scores."""
        name = "auroc" if metric == "auoscr" else metric
        scores = self.known(GRID), np.ones(len(GRID), bool), self.unknown(GRID, shift)
        return open_set_metrics(*scores)[name] * (accuracy if metric == "auoscr" else 1)


def in_halves(scores: np.ndarray) -> np.ndarray:
    """Rounded up to halves: many ties."""
    return np.ceil(2 * scores) / 2


def partly_known(uniform: np.ndarray, share: float) -> np.ndarray:
    """A share of unknown images that look like known ones, the others far away."""
    alike = np.maximum(uniform, 1e-300) / max(share, 1e-300)
    return np.where(alike < 1, ndtri(np.minimum(alike, 1)), 20.0 + uniform)


POPULATIONS = {
    "normal": Population(ndtri, lambda u, shift: ndtri(u) + shift, (-9, 9), 99),
    "tied": Population(lambda u: in_halves(ndtri(u)), lambda u, s: in_halves(ndtri(u) + s), (-9, 9), 99),
    "wide": Population(ndtri, lambda u, shift: 2 * ndtri(u) + shift, (-9, 15), 99),
    "mixed": Population(ndtri, partly_known, (1, 0), 0),
    "skewed": Population(lambda u: -np.log(u), lambda u, shift: shift - np.log(u) / 2, (-9, 15), 99),
}


def coverage(
    population: Population, metric: str, value: float, size: int, *, repetitions: int, replicates: int
) -> tuple[float, float]:
    """Share of repetitions whose interval, and whose percentile interval, holds the truth."""
    rng = np.random.default_rng([size, round(1000 * value), len(metric)])
    shift, accuracy = population.at(metric, value)
    truth = population.truth(metric, shift, accuracy)
    if shift == population.perfect:
        repetitions = 1
    drawn = np.array(
        [
            _sample(metric, population, shift, accuracy, size=size, replicates=replicates, rng=rng)
            for _ in range(repetitions)
        ]
    )
    estimate, variance, upper, *percentile = drawn.T
    ends = metric_ends(
        metric,
        estimate,
        variance,
        units=Units(size, size),
        confidence=CONFIDENCE,
        upper_estimate=upper,
    )
    ours, theirs = (
        np.mean((low <= truth + 1e-9) & (truth <= high + 1e-9)) for low, high in (ends, percentile)
    )
    return float(ours), float(theirs)


def _sample(
    metric: str,
    population: Population,
    shift: float,
    accuracy: float,
    *,
    size: int,
    replicates: int,
    rng: np.random.Generator,
) -> tuple[float, float, float, float, float]:
    """Estimate, variance of the replicates, upper estimate and percentile interval of one test set.

    All replicates at once, what `bootstrap_replicates` does one by one: `--check` compares the two.
    """
    scores = np.concatenate((population.known(rng.random(size)), population.unknown(rng.random(size), shift)))
    known = np.arange(2 * size) < size
    right = known & (rng.random(2 * size) < accuracy)
    order = np.argsort(scores, kind="stable")
    last_of_ties = np.flatnonzero(np.append(np.diff(scores[order]) > 0, True))
    counts = _counts(rng, replicates, size)
    totals = [
        np.pad(np.cumsum((counts * kind)[:, order], axis=1)[:, last_of_ties], ((0, 0), (1, 0)))
        for kind in (known, right if metric == "auoscr" else known, ~known)
    ]
    values = (_rate if metric == FPR else _area)(*totals, 0.95)
    upper = values[0]
    if metric == FPR:
        asked = 0.95 * (1 + 1 / size)
        upper = 1.0 if asked > 1 + 1e-9 else _rate(*(total[:1] for total in totals), asked)[0]
    return (values[0], values[1:].var(ddof=1), upper, *np.quantile(values[1:], (0.025, 0.975)))


def _counts(rng: np.random.Generator, replicates: int, size: int) -> np.ndarray:
    """How often each of 2 * size images is drawn, (1 + replicates, 2 * size); once each in row 0."""
    rows = np.arange(2 * replicates)[:, None] * size
    drawn = np.bincount(
        (rng.integers(size, size=(2 * replicates, size)) + rows).ravel(), minlength=2 * replicates * size
    )
    return np.vstack((np.ones(2 * size, int), drawn.reshape(replicates, 2 * size)))


def _area(known: np.ndarray, counted: np.ndarray, unknown: np.ndarray, _tpr: float) -> np.ndarray:
    steps = (counted[:, 1:] + counted[:, :-1]) * np.diff(unknown, axis=1)
    return steps.sum(axis=1) / (2 * known[:, -1] * unknown[:, -1])


def _rate(known: np.ndarray, _counted: np.ndarray, unknown: np.ndarray, tpr: float) -> np.ndarray:
    rows = np.argmax(known >= np.ceil(tpr * known[:, -1:] * (1 - 1e-12)), axis=1)
    return np.take_along_axis(unknown, rows[:, None], axis=1)[:, 0] / unknown[:, -1]


def print_check() -> None:
    """One line per metric: the variance of many replicates here and of `bootstrap_replicates`."""
    for metric in ("auroc", "auoscr", FPR):
        population, shift = POPULATIONS["tied"], 1.5
        rng = np.random.default_rng(1)
        ours = _sample(metric, population, shift, 0.9, size=50, replicates=20_000, rng=rng)[:2]
        rng = np.random.default_rng(1)
        known, unknown = population.known(rng.random(50)), population.unknown(rng.random(50), shift)
        right = (rng.random(100) < 0.9)[:50]
        found = bootstrap_intervals(
            known, right, unknown, replicates=20_000, confidence=CONFIDENCE, seed=0, num_threads=1
        )[metric]
        print(
            f"{metric}: {ours[0]:.6f} {ours[1] ** 0.5:.4f}, library {found.estimate:.6f} {found.spread:.4f}"
        )


def accuracy_coverage(value: float, size: int) -> float:
    """The exact coverage of the interval of a share."""
    counts = np.arange(size + 1)
    low, high = share_ends(counts / size, size, confidence=CONFIDENCE, shape=SHARE)
    return float(binom.pmf(counts, size, value)[(low <= value) & (value <= high)].sum())


def print_accuracy() -> None:
    """One row per accuracy."""
    print(HEAD)
    for value in VALUES:
        cells = " | ".join(f"{100 * accuracy_coverage(value, size):.1f}" for size in SIZES)
        print(f"| accuracy (exact) | {value} | {cells} |", flush=True)


def print_population(name: str, *, repetitions: int, replicates: int) -> None:
    """One row per metric and value: coverage in %, that of the percentile bootstrap in brackets."""
    every = []
    print(f"\n{name}\n\n{HEAD}")
    for metric, value in _rows():
        if name == "mixed" and metric == FPR and value > 0.9:
            continue  # unknowns that look like knowns are accepted no more often than knowns
        cells = [
            coverage(POPULATIONS[name], metric, value, size, repetitions=repetitions, replicates=replicates)
            for size in SIZES
        ]
        every += [cell[0] for cell in cells]
        text = " | ".join(f"{100 * ours:.1f} ({100 * theirs:.0f})" for ours, theirs in cells)
        print(f"| `{metric}` | {value:g} | {text} |", flush=True)
    shares = np.array(every)
    print(
        f"{name}: smallest {100 * shares.min():.1f}, below 93: {(shares < 0.93).sum()}, "
        f"above 98: {(shares > 0.98).sum()} of {len(shares)} cells"
    )


def _rows() -> Iterator[tuple[str, float]]:
    for metric in ("auroc", "auoscr"):
        yield from ((metric, value) for value in VALUES)
    yield from ((FPR, value) for value in (*VALUES[:-1], *RATES))


def print_groups(*, repetitions: int, replicates: int) -> None:
    """Coverage where frames of a track are alike: whole tracks drawn, in brackets single images."""
    print("\n| tracks a side | correlation | auroc of the population | " + " | ".join(GROUPED) + " |")
    print(f"|---|---:|---:|{'---:|' * len(GROUPED)}")
    for tracks, frames in ((10, 30), (20, 30), (50, 10)):
        for correlation in (0.0, 0.5, 0.8):
            for auroc in (0.9, 0.99) if correlation else (0.9,):
                found = _group_coverage(auroc, correlation, tracks, frames, repetitions, replicates)
                cells = " | ".join(f"{100 * ours:.0f} ({100 * theirs:.0f})" for ours, theirs in found.T)
                print(f"| {tracks} of {frames} frames | {correlation} | {auroc} | {cells} |", flush=True)


def _group_coverage(
    auroc: float, correlation: float, tracks: int, frames: int, repetitions: int, replicates: int
) -> np.ndarray:
    """Coverage by track and by image, (2, metrics)."""
    rng = np.random.default_rng([tracks, round(10 * correlation), round(100 * auroc)])
    numbers = np.repeat(np.arange(tracks), frames)
    groups, population = Groups(numbers, numbers + tracks), POPULATIONS["normal"]
    shift = population.at("auroc", auroc)[0]
    truth = {name: population.truth(name, shift, 0.9) for name in GROUPED[:-1]} | {"accuracy": 0.9}

    def alike() -> np.ndarray:
        of_tracks, own = rng.normal(size=tracks)[numbers], rng.normal(size=len(numbers))
        return np.sqrt(correlation) * of_tracks + np.sqrt(1 - correlation) * own

    holds = []
    for seed in range(repetitions):
        scored = alike(), alike() < ndtri(0.9), alike() + shift
        for used in (groups, None):
            intervals = bootstrap_intervals(
                *scored, replicates=replicates, confidence=CONFIDENCE, seed=seed, groups=used
            )
            holds.append([intervals[name].low <= truth[name] <= intervals[name].high for name in GROUPED])
    return np.mean(np.reshape(holds, (repetitions, 2, len(GROUPED))), axis=0)


def main() -> None:
    """Read what to simulate and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--populations", nargs="*", choices=[*POPULATIONS], default=["normal"])
    parser.add_argument("--groups", action="store_true", help="tracks of frames that are alike, too")
    parser.add_argument("--repetitions", type=int, default=300, help="(%(default)s)")
    parser.add_argument("--replicates", type=int, default=100, help="(%(default)s)")
    parser.add_argument("--check", action="store_true", help="compare the replicates with the library's")
    options = parser.parse_args()
    start = time.perf_counter()
    if options.check:
        print_check()
    print_accuracy()
    numbers = {"repetitions": options.repetitions, "replicates": options.replicates}
    for name in options.populations:
        print_population(name, **numbers)
    if options.groups:
        print_groups(**numbers)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
