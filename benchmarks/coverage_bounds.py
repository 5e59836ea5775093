"""Whether any interval for AUROC can cover 93 to 98 % in all populations at once: it often cannot.

Run: OMP_NUM_THREADS=1 python -m benchmarks.coverage_bounds
An interval whose ends depend on the estimate and rise with it holds a true value for a range of estimates.
Of each value and size all ranges are tried, each in all populations of `benchmarks.coverage` (their estimates
drawn 20,000 times, 8,000 at n = 500); printed is the range that comes nearest, and its coverages.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from benchmarks.coverage import POPULATIONS, SIZES, VALUES, Population

WANTED = (0.93, 0.98)
AT_ONCE = 4_000_000  # scores
RANGES = 3_000  # ends that are tried


class Nearest(NamedTuple):
    """A range of estimates, the smallest and largest coverage of it, and how far these are outside."""

    outside: float
    low: int
    high: int
    smallest: float
    largest: float


def estimates(population: Population, value: float, size: int, draws: int) -> np.ndarray:
    """(draws,) int64: estimated AUROC in units of half a pair, from `size` images a side."""
    rng = np.random.default_rng([size, round(1000 * value)])
    shift, _ = population.at("auroc", value)
    found = []
    for rows in np.diff(np.append(np.arange(0, draws, AT_ONCE // (2 * size)), draws)):
        known = population.known(rng.random((rows, size)))
        unknown = population.unknown(rng.random((rows, size)), shift)
        ranks = rankdata(np.concatenate((known, unknown), axis=1), axis=1)[:, size:].sum(axis=1)
        found.append(np.round(2 * ranks - size * (size + 1)).astype(np.int64))
    return np.concatenate(found)


def nearest(drawn: list[np.ndarray]) -> Nearest:
    """The range whose coverage in all populations is nearest to what is wanted."""
    ends = np.unique(np.concatenate(drawn))
    if len(ends) > RANGES:
        ends = np.unique(np.quantile(ends, np.linspace(0, 1, RANGES), method="nearest"))
    up_to = np.array([np.searchsorted(np.sort(one), ends, side="right") / len(one) for one in drawn])
    best = Nearest(np.inf, 0, 0, 0.0, 0.0)
    for start in range(len(ends)):
        covered = up_to[:, start:] - (up_to[:, [start - 1]] if start else 0.0)
        smallest, largest = covered.min(axis=0), covered.max(axis=0)
        outside = np.maximum(WANTED[0] - smallest, largest - WANTED[1])
        at = int(outside.argmin())
        if outside[at] < best.outside:
            range_ = int(ends[start]), int(ends[start + at])
            best = Nearest(float(outside[at]), *range_, float(smallest[at]), float(largest[at]))
    return best


def main() -> None:
    """Print a line per value and size."""
    print("| value | n | estimates from | to | smallest coverage | largest | 93 to 98 % |")
    print("|---:|---:|---:|---:|---:|---:|---|")
    for size in SIZES:
        for value in VALUES[:-1]:
            draws = 20_000 if size < SIZES[-1] else 8_000
            drawn = [estimates(one, value, size, draws) for one in POPULATIONS.values()]
            best = nearest(drawn)
            pairs = 2 * size * size
            range_ = f"{best.low / pairs:.3f} | {best.high / pairs:.3f}"
            shown = f"{range_} | {best.smallest:.1%} | {best.largest:.1%}"
            print(f"| {value} | {size} | {shown} | {'possible' if best.outside <= 0 else 'no range'} |")


if __name__ == "__main__":
    main()
