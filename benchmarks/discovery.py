"""How pure the candidates of `osr discover` are, on the test images of the present run.

    python -m benchmarks.discovery
    python -m benchmarks.discovery --clustering      only how long the clustering of the rejected ones takes

To be run in a project with a finished run whose split has unknown classes: exports its classifier, writes its
test images, known and unknown ones, to files, and lets the command judge and cluster them. Purity is the
share of the images in candidates that are of their candidate's most frequent class; known images that were
rejected count as what they are, so they make it smaller.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from osr.detectors.registry import load_detector
from osr.inference.discovery import discover
from osr.metrics.threshold_files import load_thresholds
from osr.outputs import Outputs
from osr.params import load_params
from osr.splits.split import Split
from pipeline import cli
from pipeline.images import open_images
from pipeline.report.judge import judge_of
from pipeline.serving.rejected import num_accepted
from pipeline.workspace.stages import DETECTORS, PARAMS, SPLIT, TEST_OUTPUTS, THRESHOLDS


def write_images(folder: Path) -> Split:
    """The test images, in folders named by the number of their class."""
    split, images = Split.load(SPLIT), open_images()
    for row in split.test:
        file = folder / f"{split.targets[row]:03}" / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image = images[row]
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file)
    return split


def tables(split: Split, rejected: Path, said: str) -> str:
    """What became of every class, what is in every candidate, and the purity; `said` by the command."""
    stability = dict(re.findall(r"^(candidate_\d+): .* stability (\S+)", said, re.MULTILINE))
    with rejected.open(newline="") as file:
        rows = [(int(Path(row["file"]).parent.name), row["candidate"]) for row in csv.DictReader(file)]
    tested = Counter(split.targets[split.test].tolist())
    lines = ["| class | | tested | rejected | in candidates |", "|---|---|---|---|---|"]
    for number, count in sorted(tested.items()):
        kind = "known" if number in split.known else "unknown"
        own = [candidate for target, candidate in rows if target == number]
        inside = sum(bool(candidate) for candidate in own)
        lines.append(f"| {split.class_names[number]} | {kind} | {count:,} | {len(own):,} | {inside:,} |")
    lines += ["", "| candidate | images | most are | share | stability |", "|---|---|---|---|---|"]
    right = 0
    names = sorted(
        {candidate for _, candidate in rows if candidate}, key=lambda name: int(name.split("_")[1])
    )
    for name in names:
        own = Counter(target for target, candidate in rows if candidate == name)
        ((most, count),) = own.most_common(1)
        right += count
        share = f"{count / own.total():.1%}"
        lines.append(
            f"| {name} | {own.total():,} | {split.class_names[most]} | {share} | {stability[name]} |"
        )
    inside = sum(bool(candidate) for _, candidate in rows)
    lines += [
        "",
        f"Purity {right / inside:.3f}, of {inside:,} images in candidates among {len(rows):,} rejected.",
    ]
    return "\n".join(lines)


def time_clustering(min_images: int) -> None:
    """Print the processor time of the clustering of what plot.detector rejects of the stored test outputs."""
    name, outputs = judge_of(load_params(PARAMS)), Outputs.load(TEST_OUTPUTS)
    limits = load_thresholds(THRESHOLDS)
    detector = load_detector(DETECTORS / f"{name}.safetensors")
    is_rejected = detector.score(outputs) > limits.of[name].value
    most = num_accepted(outputs.num_classes, min_images)
    accepted = np.random.default_rng(0).permutation(np.flatnonzero(~is_rejected))[:most]
    features = np.asarray(outputs.features)
    start = time.process_time()
    found = discover(features[is_rejected], features[accepted], min_images=min_images)
    took = time.process_time() - start
    print(
        f"{is_rejected.sum():,} rejected images, {len(found.sizes)} candidates: {took:.1f} s of a processor"
    )


def main() -> None:
    """Print what the command says, the tables and the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--min-images", default="10")
    parser.add_argument("--accept")
    parser.add_argument("--detector")
    parser.add_argument("--clustering", action="store_true")
    options = parser.parse_args()
    if options.clustering:
        time_clustering(int(options.min_images))
        return
    asked = ["--min-images", options.min_images]
    for name in ("accept", "detector"):
        if value := getattr(options, name):
            asked += [f"--{name}", value]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split = write_images(folder / "images")
        if cli.main(["export", str(folder / "classifier")]):
            sys.exit(1)
        start = time.perf_counter()
        out = ["--out", str(folder / "found")]
        with contextlib.redirect_stdout(io.StringIO()) as said:
            status = cli.main(["discover", str(folder / "classifier"), str(folder / "images"), *asked, *out])
        print(said.getvalue())
        if status:
            sys.exit(1)
        print(f"osr discover took {time.perf_counter() - start:.0f} s.\n")
        print(tables(split, folder / "found" / "rejected.csv", said.getvalue()))


if __name__ == "__main__":
    main()
