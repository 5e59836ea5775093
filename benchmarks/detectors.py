"""Fit and score time of every detector, beside one matrix product of the same arrays.

    python -m benchmarks.detectors                  10,000 x 10 classes x 512 features, 4,000 test images
    python -m benchmarks.detectors --large          50,000 x 1,000 x 2,048, 100,000 test images (needs 6 GB)
    python -m benchmarks.detectors --only knn vim

Times are the best of the repeats. "product" is the time divided by that of test.features @ weight.T, the one
product that turns features into logits. "extra" is the peak of
resident memory beyond that before the fit (Linux).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from osr.config import load_params
from osr.detectors.registry import DETECTORS, build_detectors
from osr.detectors.settings import DetectorsSettings
from osr.outputs import Outputs

ROOT = Path(__file__).parents[1]
SMALL = {"train": 10_000, "test": 4_000, "classes": 10, "width": 512}
LARGE = {"train": 50_000, "test": 100_000, "classes": 1000, "width": 2048}


def main() -> None:
    """Print one line per detector."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(DETECTORS), default=list(DETECTORS), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=0, help="0: 7 small, 1 large")
    arguments = parser.parse_args()
    shape = LARGE if arguments.large else SMALL
    repeats = arguments.repeats or (1 if arguments.large else 7)
    train, test = make_outputs(shape["train"], shape, seed=1), make_outputs(shape["test"], shape, seed=2)
    settings = load_params(ROOT / "params.yaml").detectors
    product = best(lambda: test.features @ test.weight.T, max(repeats, 3))
    print(f"{shape}; test.features @ weight.T: {1e3 * product:.2f} ms; best of {repeats}")
    print(f"{'detector':12} {'fit ms':>10} {'score ms':>10} {'sum ms':>10} {'x product':>10} {'extra MB':>9}")
    for name in arguments.only:
        fit, score, extra = measure(name, settings, train, test, repeats)
        times = " ".join(f"{1e3 * seconds:10.2f}" for seconds in (fit, score, fit + score))
        print(f"{name:12} {times} {(fit + score) / product:10.2f} {extra:9.0f}", flush=True)


def make_outputs(count: int, shape: dict[str, int], *, seed: int) -> Outputs:
    """ReLU features around one direction per class, and the logits of a head that knows the directions."""
    classes, width = shape["classes"], shape["width"]
    head = np.random.default_rng(0)
    weight = head.normal(size=(classes, width)).astype(np.float32)
    bias = 0.1 * head.normal(size=classes).astype(np.float32)
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % classes
    features = rng.standard_normal((count, width), dtype=np.float32)
    for start in range(0, count, 4096):
        features[start : start + 4096] += weight[labels[start : start + 4096]]
    np.maximum(features, 0, out=features)
    weight *= 0.05
    return Outputs(features @ weight.T + bias, features, labels, np.arange(count), weight, bias)


def measure(
    name: str, settings: DetectorsSettings, train: Outputs, test: Outputs, repeats: int
) -> tuple[float, float, float]:
    """Best fit and score time in seconds, and extra memory in MB."""
    (detector,) = build_detectors(settings.model_copy(update={"enabled": (name,)})).values()
    before = reset_peak()
    fit = best(lambda: detector.fit(train), repeats)
    score = best(lambda: detector.score(test), repeats)
    return fit, score, (resident("VmHWM") - before) / 1e6


def best(call: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def reset_peak() -> int:
    """Forget the peak of resident memory; bytes resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(key: str) -> int:
    """Bytes, from /proc: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


if __name__ == "__main__":
    main()
