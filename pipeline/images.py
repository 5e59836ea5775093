"""The images of some rows of the split, in batches, for the stages that run a network."""

from __future__ import annotations

import torch

from osr.data.batches import ArrayImages, Images
from osr.outputs import IntArray
from osr.splits import Split
from pipeline.stages import open_images


def open_part(split: Split, rows: IntArray) -> Images:
    """The images of `rows` with their labels, read when they are asked for."""
    return ArrayImages(open_images(), rows, torch.from_numpy(split.labels[rows]))
