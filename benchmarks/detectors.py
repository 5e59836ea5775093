"""Fit and score time of every detector, beside pytorch-ood and OpenOOD's published algorithms.

    python -m benchmarks.detectors            10,000 x 10 classes x 512 features, 4,000 test images
    python -m benchmarks.detectors --large    50,000 x 1,000 x 2,048, 10,000 test images (needs 12 GB)
    python -m benchmarks.detectors --clock cpu --threads 1      on a machine that others use, too
    python -m benchmarks.detectors --large --images 100000 --peers

The same arrays for all, in one process. Each cell: milliseconds of fit and score together, best of the
repeats each, of which there are as many as begin within 2 seconds, and the peak of resident memory beyond
that before (MB). ~: the scores of a prefix of the test images, scaled up, where all of them would take longer
than --limit seconds; its memory, too, is that of the prefix. Fits are never scaled. "ratio" is ours over the
fastest peer. Needs requirements-dev.txt.
"""

from __future__ import annotations

import argparse
import gc
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import peer_openood, peer_pytorch_ood
from benchmarks.measure import Clock, best, limit_threads, reset_peak, resident, timed
from osr.detectors.registry import DETECTORS as ALL
from osr.detectors.registry import build_detectors
from osr.detectors.settings import DetectorsSettings
from osr.outputs import Outputs
from osr.params import load_params

ROOT = Path(__file__).parents[1]
SMALL = {"train": 10_000, "test": 4_000, "classes": 10, "width": 512}
LARGE = {"train": 50_000, "test": 10_000, "classes": 1000, "width": 2048}
PREFIX = 200  # images, one batch of OpenOOD

DETECTORS = [name for name in ALL if name != "odin"]  # it runs the network again
PEERS = {"pytorch-ood": peer_pytorch_ood.PEERS, "openood": peer_openood.PEERS}

Score = Callable[[Outputs], object]
Fit = Callable[[Outputs, DetectorsSettings], Score]


class Cell(NamedTuple):
    """Seconds, MB, and whether a part was scaled up."""

    seconds: float
    megabytes: float
    scaled: bool

    def __str__(self) -> str:
        milliseconds = 1e3 * self.seconds
        digits = 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0
        return f"{'~' if self.scaled else ''}{milliseconds:,.{digits}f} ({self.megabytes:,.0f})"


class Case(NamedTuple):
    """What every detector is measured on."""

    train: Outputs
    test: Outputs
    settings: DetectorsSettings
    repeats: int
    clock: Clock


def main() -> None:
    """Print one line per detector, as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--only", nargs="+", choices=DETECTORS, default=DETECTORS, metavar="NAME")
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--images", type=int, help="test images")
    parser.add_argument("--repeats", type=int, default=7, help="(%(default)s)")
    parser.add_argument("--limit", type=float, default=5.0, help="seconds of a peer's scores (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="(%(default)s)")
    parser.add_argument(
        "--peers", nargs="*", choices=list(PEERS), default=list(PEERS), help="none: ours alone"
    )
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    shape = dict(LARGE if arguments.large else SMALL)
    shape["test"] = arguments.images or shape["test"]
    train, test = make_outputs(shape["train"], shape, seed=1), make_outputs(shape["test"], shape, seed=2)
    case = Case(train, test, load_params(ROOT / "params.yaml").detectors, arguments.repeats, arguments.clock)
    product = best(lambda: test.features @ test.weight.T, max(arguments.repeats, 3), arguments.clock)
    print(f"{shape}; {arguments.threads} threads, {arguments.clock} time, best of {arguments.repeats};")
    print(f"features @ weight.T of the test images: {1e3 * product:.1f} ms\n")
    print("| detector | ours: ms (MB) | pytorch-ood | OpenOOD | ratio |\n|---|---:|---:|---:|---:|")
    for name in (name for name in arguments.only if name not in arguments.skip):
        ours = measure(partial(our_fit, name), case)
        peers = [PEERS[peer] if peer in arguments.peers else {} for peer in PEERS]
        cells = [measure(peer[name], case, limit=arguments.limit) if name in peer else None for peer in peers]
        fastest = min((cell.seconds for cell in cells if cell), default=None)
        texts = [str(ours), *(str(cell) if cell else "–" for cell in cells)]
        texts.append(f"{ours.seconds / fastest:.2g}" if fastest else "–")
        print(f"| {name} | {' | '.join(texts)} |", flush=True)


def our_fit(name: str, train: Outputs, settings: DetectorsSettings) -> Score:
    """Our detector, fitted."""
    (detector,) = build_detectors(settings.model_copy(update={"enabled": (name,)})).values()
    return detector.fit(train).score


def measure(fit: Fit, case: Case, *, limit: float = math.inf) -> Cell:
    """Fit on train, score test or as many of its images as the limit allows."""
    train, test, settings, repeats, clock = case
    gc.collect()
    before = reset_peak()
    fit_s, score = timed(lambda: fit(train, settings), clock)
    sample = test.select(slice(0, PREFIX))
    sample_s, _ = timed(lambda: score(sample), clock)
    rows = len(test) if math.isinf(limit) else max(PREFIX, min(len(test), int(PREFIX * limit / sample_s)))
    part = sample if rows == PREFIX else test.select(slice(0, rows)) if rows < len(test) else test
    score_s = sample_s if part is sample else timed(lambda: score(part), clock)[0]
    megabytes = (resident("VmHWM") - before) / 1e6
    fit_s = best(lambda: fit(train, settings), repeats, clock, first=fit_s)
    score_s = best(lambda: score(part), repeats, clock, first=score_s)
    return Cell(fit_s + score_s * len(test) / len(part), megabytes, rows < len(test))


def make_outputs(count: int, shape: dict[str, int], *, seed: int) -> Outputs:
    """ReLU features around one direction per class, logits of a head that knows them, and one extra logit."""
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
    extra = rng.standard_normal((count, 1), dtype=np.float32)
    return Outputs(features @ weight.T + bias, features, labels, np.arange(count), weight, bias, extra)


if __name__ == "__main__":
    main()
