"""`osr predict` on many small images: its rate beside the bare forward pass, and its memory as it goes on.

    python -m benchmarks.stream 100000

The network is ResNet-18 at 32 x 32 in colour with random weights, or another of timm by --backbone. The peer
is the same network on random pixels in the same batches with the same threads: nothing is read, scored or
written. Images are PNG files of noise over a gradient, made in a temporary folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from osr.calibration.calibrators import Temperature
from osr.detectors.registry import build_detectors
from osr.inference.classifier import OpenSetClassifier
from osr.inference.judgement import Decision
from osr.inference.parts import Parts
from osr.metrics.thresholds import Threshold
from osr.models.forward import forward, ready
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat
from osr.params import load_params
from pipeline.serving.predict import Stream, columns, records
from pipeline.serving.sources import open_sources
from pipeline.serving.verdict_file import writing

SIDE = 32


def classifier_of(backbone: str, batch_size: int) -> OpenSetClassifier:
    """An untrained network of ten classes with maxlogit."""
    params = load_params(Path("params.yaml"))
    changed = params.model.backbone.model_copy(update={"name": backbone, "weights": "none"})
    settings = params.model.model_copy(update={"backbone": changed, "image_size": SIDE})
    names = tuple(f"class {number}" for number in range(10))
    model = OpenSetModel(settings, ImageFormat(SIDE, 3, (0.5,) * 3, (0.25,) * 3), names)
    enabled = params.detectors.model_copy(update={"enabled": ("maxlogit",)})
    fitted = (build_detectors(enabled)["maxlogit"], Threshold(0.0, "acceptance", 0.95, 0.95, 1000))
    parts = Parts(ready(model, "cpu"), Temperature(1.0), {"maxlogit": fitted}, None)  # type: ignore[arg-type]
    scores = {"maxlogit": np.random.default_rng(0).normal(size=1000)}
    return OpenSetClassifier(parts, scores, None, detector="maxlogit", batch_size=batch_size)


def make_images(folder: Path, count: int) -> None:
    """PNG files in folders of a thousand."""
    rng, ramp = np.random.default_rng(0), np.linspace(0, 200, SIDE)[:, None, None]
    for number in range(count):
        path = folder / f"{number // 1000:04}" / f"{number:07}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((ramp + rng.integers(0, 56, (SIDE, SIDE, 3))).astype(np.uint8)).save(path)


def bare_rate(classifier: OpenSetClassifier, count: int) -> float:
    """Images a second of the forward pass alone."""
    size = classifier.batch_size
    batch = torch.randint(0, 256, (size, 3, SIDE, SIDE), dtype=torch.uint8)
    start = time.perf_counter()
    with torch.inference_mode():
        for _ in range(-(-count // size)):
            forward(classifier.parts.model, batch)
    return -(-count // size) * size / (time.perf_counter() - start)


def stream_rate(classifier: OpenSetClassifier, folder: Path, out: Path, workers: int | None) -> float:
    """Images a second of the command's own loop; prints the memory of all its processes."""
    decision, process = Decision(), psutil.Process()
    stream = Stream(classifier, decision, max_pixels=SIDE * SIDE, num_workers=workers)
    names, done, told, start = classifier.class_names, 0, 0, time.perf_counter()
    with writing(out, "csv", columns(names)) as write:
        for batch, found in stream.batches(open_sources([str(folder)])):
            write(list(records(batch, found, names)))
            done += len(batch)
            if done >= told:
                shared = sum(child.memory_info().rss for child in process.children())
                print(f"{done:>9,} images: {process.memory_info().rss >> 20} MiB, workers {shared >> 20} MiB")
                told += 20_000
    return done / (time.perf_counter() - start)


def main() -> None:
    """Print rates, ratio and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("images", type=int)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    classifier = classifier_of(options.backbone, options.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        make_images(images, options.images)
        bare_rate(classifier, 1000)
        before = bare_rate(classifier, min(options.images, 10_000))
        rate = stream_rate(classifier, images, Path(folder) / "verdicts.csv", options.workers)
        after = bare_rate(classifier, min(options.images, 10_000))
    bare = (before + after) / 2
    print(f"bare forward {bare:,.0f} images/s, stream {rate:,.0f} images/s: {rate / bare:.2f} of it")


if __name__ == "__main__":
    main()
