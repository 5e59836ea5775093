"""The near-copies of stage prepare-split on disk: a table of all, and a picture of the first pairs."""

from __future__ import annotations

import csv
from collections.abc import Sequence

import numpy as np

from osr.data.contact_sheet import pair_sheet
from osr.data.images import ImageFiles
from osr.splits.split import PARTS, Split
from pipeline.images import Pixels
from pipeline.workspace.stages import NEAR_COPIES, NEAR_COPIES_SHEET
from pipeline.workspace.swap import new

SHOWN = 60  # pairs in the picture


def write_near_copies(pairs: Sequence[tuple[int, int]], images: Pixels, split: Split) -> None:
    """Write both files; neither where there is no pair. Images that stay files are named."""
    if not pairs:
        return
    names = images.names if isinstance(images, ImageFiles) else np.full(len(images), "")
    with new(NEAR_COPIES).open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ("row", "part", "class", "file")
        writer.writerow((*columns, *(f"other_{column}" for column in columns)))
        for first, second in pairs:
            writer.writerow([*_place(split, first), names[first], *_place(split, second), names[second]])
    texts = ["\n".join(" ".join(map(str, _place(split, row))) for row in pair) for pair in pairs[:SHOWN]]
    pair_sheet(images, pairs[:SHOWN], texts).save(new(NEAR_COPIES_SHEET))


def num_near_copies() -> int:
    """How many pairs the split on disk has."""
    if not NEAR_COPIES.is_file():
        return 0
    with NEAR_COPIES.open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.DictReader(file))


def _place(split: Split, row: int) -> tuple[int, str, str]:
    return row, PARTS[split.part_codes[row]], split.class_names[split.targets[row]]
