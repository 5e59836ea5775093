"""Make folders of photos out of small images, to time the way from a folder to a verdict (docs/photos.md).

    python -m benchmarks.photo_folder gtsrb GTSRB32.npz OUT           street signs, JPEGs of 200 to 640 pixels
    python -m benchmarks.photo_folder fashion FASHION_MNIST.npz OUT   clothes as PNGs of 28 x 28, grey

`--images N` (2500) of ten classes, in folders with blanks and umlauts in their names. Tracks of street signs
stay whole, and their photos are called `TRACK_FRAME.jpg`. The same call makes the same files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

SIGNS = {
    1: "Höchstgeschwindigkeit 30",
    2: "Höchstgeschwindigkeit 50",
    4: "Höchstgeschwindigkeit 70",
    9: "Überholverbot",
    10: "Überholverbot für Lkw",
    12: "Vorfahrtstraße",
    13: "Vorfahrt gewähren",
    18: "Achtung",
    25: "Baustelle",
    38: "rechts vorbei",
}
SIDES = (200, 640)  # pixels, the shorter side of a street sign


def main() -> None:
    """Read the arrays and write the photos."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("gtsrb", "fashion"))
    parser.add_argument("arrays", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=2500)
    options = parser.parse_args()
    with np.load(options.arrays) as held:
        arrays = dict(held)
    (signs if options.kind == "gtsrb" else clothes)(arrays, options.out, options.images)


def signs(arrays: dict[str, np.ndarray], out: Path, count: int) -> None:
    """Equal shares of the classes, blown up bicubically, each photo of another size and shape."""
    draw = np.random.default_rng(0)
    share = -(-count // len(SIGNS))
    rows = [row for label in SIGNS for row in np.flatnonzero(arrays["y"] == label)[:share]][:count]
    for row in tqdm(rows, desc="write photos", disable=None):
        short = int(draw.integers(*SIDES))
        size = (short, min(SIDES[1], int(short * draw.uniform(1, 1.4))))
        name = f"{arrays['track'][row]:05d}_{arrays['frame'][row]:05d}.jpg"
        path = out / SIGNS[int(arrays["y"][row])] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(arrays["x"][row]).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)


def clothes(arrays: dict[str, np.ndarray], out: Path, count: int) -> None:
    """The first images; the class of image i is i % 10."""
    names = [str(name).replace("/", " oder ") for name in arrays["classes"]]
    for row in tqdm(range(count), desc="write photos", disable=None):
        path = out / f"{names[int(arrays['y'][row])]} größe 28" / f"{row:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(arrays["x"][row]).save(path)


if __name__ == "__main__":
    main()
