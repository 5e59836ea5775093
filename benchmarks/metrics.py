"""How long the open-set metrics take next to a bare argsort, scikit-learn and the published OSCR loop.

Run: python -m benchmarks.metrics [--sizes 20000 200000 2000000] [--clock cpu]
Every ratio is the median over rounds in which both sides ran one after the other on the same arrays. Where
others use the machine, processor time says more than the clock on the wall; both sides have one thread.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from osr.calibration.reliability import Reliability
from osr.metrics.bootstrap import bootstrap_intervals
from osr.metrics.open_set import open_set_metrics

ROUNDS = 9


clock = time.perf_counter


def seconds(work: Callable[[], object]) -> float:
    """Time of one call by the chosen clock."""
    start = clock()
    work()
    return clock() - start


def compare(name: str, ours: Callable[[], object], peer: Callable[[], object], rounds: int = ROUNDS) -> None:
    """Print the best time of both and the median ratio ours / peer."""
    pairs = np.array([(seconds(ours), seconds(peer)) for _ in range(rounds)])
    best = pairs.min(axis=0) * 1e3
    ratio = np.median(pairs[:, 0] / pairs[:, 1])
    print(f"  {name:<44} ours {best[0]:9.2f} ms   peer {best[1]:9.2f} ms   ratio {ratio:6.3f}", flush=True)


def sklearn_metrics(truth: np.ndarray, scores: np.ndarray) -> None:
    """AUROC, both average precisions and the ROC curve that FPR@95 is read from."""
    roc_auc_score(truth, scores)
    average_precision_score(truth, scores)
    average_precision_score(1 - truth, -scores)
    roc_curve(truth, scores, drop_intermediate=False)


def published_oscr(known: np.ndarray, correct: np.ndarray, unknown: np.ndarray) -> float:
    """OSCR as the ARPL and Vaze repositories loop over it: O(n^2), one step off."""
    order = np.concatenate((-known, -unknown)).argsort()
    right = np.concatenate((correct, np.zeros(len(unknown), bool)))[order]
    strange = np.repeat([False, True], (len(known), len(unknown)))[order]
    rows = [(right[k + 1 :].sum(), strange[k:].sum()) for k in range(len(order) - 2)]
    ccr, fpr = np.array([(0, 0), *rows[::-1], (len(known), len(unknown))]).T / [[len(known)], [len(unknown)]]
    return float(np.trapezoid(ccr, fpr))


def draw(size: int, dtype: type[np.floating]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half known, half unknown, 10 % of the known classified wrong."""
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(size=size // 2), rng.normal(size=size // 2) + 1
    return known.astype(dtype), rng.random(size // 2) < 0.9, unknown.astype(dtype)


def at_size(size: int) -> None:
    """All comparisons at one number of scores."""
    print(f"{size:,} scores")
    for dtype in (np.float32, np.float64):
        known, correct, unknown = draw(size, dtype)
        both, truth = np.concatenate((known, unknown)), np.repeat([0, 1], size // 2)
        name = np.dtype(dtype).name
        everything = lambda k=known, c=correct, u=unknown: open_set_metrics(k, c, u)  # noqa: E731
        compare(f"everything / one np.argsort, {name}", everything, lambda b=both: np.argsort(b))
        rounds = 3 if size > 500_000 else ROUNDS
        compare(
            f"everything / scikit-learn, {name}",
            everything,
            lambda b=both, t=truth: sklearn_metrics(t, b),
            rounds,
        )
        tracemalloc.start()
        everything()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"  {f'peak memory, {name}':<44} {peak / both.nbytes:.1f} score vectors")
    if size <= 20_000:
        compare(
            "everything / published O(n^2) OSCR alone",
            everything,
            lambda: published_oscr(known, correct, unknown),
        )
    confidence = np.random.default_rng(1).random(size // 2)
    compare(
        "ECE / one np.argsort of the confidences",
        lambda: Reliability.of(confidence, correct, bins=15).ece(),
        lambda: np.argsort(confidence),
    )
    replicates = max(4, 20_000_000 // size)
    for threads in (1, 2):
        spent = seconds(
            lambda t=threads: bootstrap_intervals(
                known, correct, unknown, replicates=replicates, confidence=0.95, seed=0, num_threads=t
            )
        )
        print(f"  bootstrap, {replicates} replicates, {threads} threads{'':<14} {spent:9.2f} s", flush=True)


def main() -> None:
    """Read the sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 200_000, 2_000_000])
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="(%(default)s)")
    options = parser.parse_args()
    if options.clock == "cpu":
        global clock  # noqa: PLW0603 (one setting of the whole program)
        clock = time.process_time
    for size in options.sizes:
        at_size(size)


if __name__ == "__main__":
    main()
