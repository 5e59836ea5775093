"""The network over one part of the split, for the stages that need its outputs."""

from __future__ import annotations

from osr.config import Params
from osr.extraction import extract, pick_device
from osr.models.open_set_model import OpenSetModel
from osr.outputs import Outputs
from osr.splits import Split
from pipeline.stages import SPLIT, WEIGHTS, open_images


def extract_part(part: str, params: Params) -> Outputs:
    """Outputs of the images of train (known classes only), val or test, in the order of their rows."""
    split = Split.load(SPLIT)
    rows = split.known_rows(part) if part == "train" else split.rows(part)
    return extract(
        OpenSetModel.load(WEIGHTS),
        open_images(),
        rows=rows,
        labels=split.labels[rows],
        batch_size=params.extraction.batch_size,
        device=pick_device(params.train.accelerator),
        title=f"forward pass, {part}",
    )
