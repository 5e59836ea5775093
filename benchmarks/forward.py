"""What all scores cost beside the network's own pass over the same images.

    python -m benchmarks.forward                              32 x 32 pixels, 10 classes, and 224 x 224, 1,000
    python -m benchmarks.forward --clock cpu --threads 1      on a machine that others use, too

ResNet-18 (timm, random weights; at 32 pixels with the stem for small images), batches of 64, float32. Every
detector is fitted once on other images; "fit" is the time of that. "cheap" are all but knn and relation,
which look at all training images for each image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.detectors import DETECTORS, make_outputs
from benchmarks.measure import best, limit_threads, timed
from osr.detectors.registry import build_detectors
from osr.models.backbones import build_backbone
from osr.params import load_params

ROOT = Path(__file__).parents[1]
NOT_CHEAP = ("knn", "relation")
WIDTH, BATCH = 512, 64
CASES = {
    32: {"classes": 10, "images": 512, "train": 10_000},
    224: {"classes": 1000, "images": 128, "train": 30_000},
}


def main() -> None:
    """Print one Markdown table per size of image."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="(%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="(%(default)s)")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    print(f"{arguments.threads} threads, {arguments.clock} time, best of {arguments.repeats}")
    for size, case in CASES.items():
        compare(size, case, arguments)


def compare(size: int, case: dict[str, int], arguments: argparse.Namespace) -> None:
    """Time the network, then each detector on features of as many images."""
    network = build_backbone(
        "resnet18", weights="none", channels=3, image_size=size, small_image_stem="auto"
    ).eval()
    images = torch.rand(case["images"], 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        forward = best(
            lambda: [network(part) for part in images.split(BATCH)], arguments.repeats, arguments.clock
        )
    shape = {"classes": case["classes"], "width": WIDTH}
    train, test = make_outputs(case["train"], shape, seed=1), make_outputs(case["images"], shape, seed=2)
    settings = load_params(ROOT / "params.yaml").detectors
    print(
        f"\n{size} x {size}: {case['images']} images, {case['classes']} classes, fit on {case['train']:,}\n"
    )
    print("| | fit ms | score ms | share of the network's pass |\n|---|---:|---:|---:|")
    print(f"| network | | {1e3 * forward:,.1f} | 100 % |")
    total = {"cheap": [0.0, 0.0], "all": [0.0, 0.0]}
    for name in DETECTORS:
        (detector,) = build_detectors(settings.model_copy(update={"enabled": (name,)})).values()
        fit, _ = timed(lambda detector=detector: detector.fit(train), arguments.clock)
        score = best(lambda detector=detector: detector.score(test), arguments.repeats, arguments.clock)
        for group in ("all",) if name in NOT_CHEAP else ("cheap", "all"):
            total[group] = [total[group][0] + fit, total[group][1] + score]
        show(name, fit, score, forward)
    for group, (fit, score) in total.items():
        show(f"**{group}**", fit, score, forward)


def show(name: str, fit: float, score: float, forward: float) -> None:
    """One row."""
    print(f"| {name} | {1e3 * fit:,.1f} | {1e3 * score:,.2f} | {100 * score / forward:.2f} % |", flush=True)


if __name__ == "__main__":
    main()
