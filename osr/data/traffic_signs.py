"""GTSRB: 43 traffic signs; a track is one physical sign filmed some 30 times, and is never cut in two."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osr.data.class_names import GTSRB as NAMES
from osr.data.images import ImageSet, numbered
from osr.data.settings import DatasetSettings
from osr.data.vision import both_parts
from osr.errors import InputError

SIZE = 32
FILES = [
    f"gtsrb/{file}"
    for file in ("GTSRB-Training_fixed.zip", "GTSRB_Final_Test_Images.zip", "GTSRB_Final_Test_GT.zip")
]


def gtsrb(settings: DatasetSettings) -> ImageSet:
    """39,270 traffic signs, resized to 32 x 32 colour (Stallkamp et al. 2012).

    The groups are the tracks of the training images, from the file names; the tracks of the test images are
    not published, and each stands for itself.

    Raises:
        InputError: a file is missing or is no image.
    """
    from torchvision.datasets import GTSRB

    def make(*, root: str, train: bool, download: bool) -> GTSRB:
        return GTSRB(root=root, split="train" if train else "test", download=download)

    both_parts(settings, make, FILES)
    folder = Path(settings.root) / "gtsrb"
    train = sorted((folder / "GTSRB" / "Training").glob("*/*.ppm"))
    with (folder / "GT-final_test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    test = [folder / "GTSRB" / "Final_Test" / "Images" / row["Filename"] for row in rows]
    targets = [int(path.parent.name) for path in train] + [int(row["ClassId"]) for row in rows]
    tracks = [f"{path.parent.name}/{path.stem.split('_')[0]}" for path in train]
    return ImageSet(
        _read([*train, *test]),
        np.array(targets, dtype=np.int64),
        NAMES,
        np.repeat(["train", "test"], [len(train), len(test)]),
        numbered(np.array([*tracks, *(str(path) for path in test)])),
    )


def _read(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """(N, 32, 32, 3) uint8, bilinear."""
    from PIL import Image

    images = np.empty((len(paths), SIZE, SIZE, 3), dtype=np.uint8)
    for row, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                images[row] = np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{path} is no image that can be read: {error}.") from error
    return images
