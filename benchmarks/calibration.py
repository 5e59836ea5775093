"""How long the temperature fit takes next to scipy's bounded minimiser, and what vector scaling takes.

Run: python -m benchmarks.calibration [--images 50000] [--classes 1000]
"""

from __future__ import annotations

import argparse
import math
import time
import tracemalloc

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from osr.calibration.calibrators import fit_calibration, mean_nll
from osr.calibration.probabilities import fit_temperature
from osr.calibration.vector_scaling import fit_vector
from osr.metrics.decisions import closed_set_metrics

TEMPERATURE = 2.447


def draw(num_images: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Float32 logits whose right temperature is about 2.447, and the labels."""
    rng = np.random.default_rng(0)
    clean = 2 * rng.normal(size=(num_images, num_classes)).astype(np.float32)
    chances = softmax(clean, axis=1).cumsum(axis=1)
    labels = np.minimum((chances < rng.random((num_images, 1))).sum(axis=1), num_classes - 1)
    return clean * np.float32(TEMPERATURE), labels


def scipy_fit(logits: np.ndarray, labels: np.ndarray) -> float:
    """The plain way: minimise the float64 NLL over log T."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]

    def nll(log_temperature: float) -> float:
        inverse = math.exp(-log_temperature)
        return float(np.mean(np.log(np.exp(shifted * inverse).sum(axis=1)) - own * inverse))

    ends = (math.log(0.01), math.log(100))
    return math.exp(minimize_scalar(nll, bounds=ends, method="bounded", options={"xatol": 1e-7}).x)


def main() -> None:
    """Print the times, the temperatures and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1000)
    arguments = parser.parse_args()
    logits, labels = draw(arguments.images, arguments.classes)
    print(f"{arguments.images:,} images x {arguments.classes:,} classes, float32")
    times = []
    for _ in range(9):
        start = time.perf_counter()
        fit = fit_temperature(logits, labels, min_temperature=0.01, max_temperature=100.0)
        times.append(time.perf_counter() - start)
    print(
        f"  fit_temperature        {min(times):.3f} s (median {np.median(times):.3f}) T {fit.temperature:.6f}"
    )
    tracemalloc.start()
    fit_temperature(logits, labels, min_temperature=0.01, max_temperature=100.0)
    print(f"  peak memory beyond the logits {tracemalloc.get_traced_memory()[1] / 1e6:.1f} MB")
    tracemalloc.stop()
    start = time.perf_counter()
    closed_set_metrics(logits, labels, temperature=fit.temperature)
    print(f"  closed_set_metrics      {time.perf_counter() - start:.3f} s")
    start = time.perf_counter()
    reference = scipy_fit(logits, labels)
    spent = time.perf_counter() - start
    print(
        f"  scipy minimize_scalar   {spent:.3f} s   T {reference:.6f}   ratio {np.median(times) / spent:.3f}"
    )
    print(f"  difference in T         {abs(fit.temperature - reference):.1e}")
    time_vector(logits, labels)


def time_vector(logits: np.ndarray, labels: np.ndarray) -> None:
    """Print what vector scaling takes, alone and judged on two folds, and what it makes of the NLL."""
    start = time.perf_counter()
    weight, offset, _ = fit_vector(logits, labels, lowest=0.01, highest=100.0)
    spent, after = time.perf_counter() - start, mean_nll(logits * weight + offset, labels)
    print(f"  fit_vector              {spent:.1f} s   NLL {mean_nll(logits, labels):.4f} to {after:.4f}")
    start = time.perf_counter()
    fit = fit_calibration(logits, labels, method="vector", folds=2)
    spent = time.perf_counter() - start
    print(f"  and judged on two folds {spent:.1f} s   held-out NLL {fit.nll_held_out:.4f}")


if __name__ == "__main__":
    main()
