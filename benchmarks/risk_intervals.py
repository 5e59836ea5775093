"""How often the 95 % intervals of risk and coverage hold the truth, in normal populations.

Run: OMP_NUM_THREADS=1 python -m benchmarks.risk_intervals [--repetitions 300]
Scores of n known and n unknown images a side; of known images with a score above 1 more are misclassified.
"""

from __future__ import annotations

import argparse

import numpy as np

from osr.metrics.bootstrap import bootstrap_intervals
from osr.metrics.risk import RISKS, risk_metrics
from osr.metrics.thresholds import count_accepted

POPULATIONS = ((1.0, 0.8), (2.0, 0.95), (3.0, 0.98), (4.0, 1.0))  # deviations of unknowns, accuracy
SIZES = (20, 50, 500)
LARGE = 400_000  # images that stand for the population


def draw(
    rng: np.random.Generator, size: int, shift: float, accuracy: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Known scores, whether their class is right, unknown scores, (size,) each."""
    known = rng.normal(size=size)
    right = rng.random(size) < accuracy - 0.2 * (known > 1)
    return known, right, rng.normal(shift, 1, size)


def main() -> None:
    """One row per population and size: coverage in % by metric."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=300)
    repetitions = parser.parse_args().repetitions
    print(f"| unknowns | accuracy | n | {' | '.join(RISKS)} |")
    for shift, accuracy in POPULATIONS:
        truth = risk_metrics(count_accepted(*draw(np.random.default_rng(0), LARGE, shift, accuracy)))
        for size in SIZES:
            rng, held = np.random.default_rng([size, round(10 * shift)]), dict.fromkeys(RISKS, 0)
            for seed in range(repetitions):
                scored = draw(rng, size, shift, accuracy)
                found = bootstrap_intervals(*scored, replicates=100, confidence=0.95, seed=seed)
                for name in RISKS:
                    held[name] += found[name].low <= truth[name] <= found[name].high
            cells = " | ".join(f"{100 * held[name] / repetitions:.1f}" for name in RISKS)
            print(f"| {shift:g} deviations | {accuracy} | {size} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
