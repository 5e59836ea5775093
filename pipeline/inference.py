"""The network over one part of the split, and the fitted detectors, for the stages that need them.

PyTorch is imported where it is used: a stage then loads it while the process beside it loads MLflow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from osr.outputs import BACKGROUND, Outputs
from osr.params import Params
from osr.splits.split import Split
from pipeline.images import open_part
from pipeline.workspace.stages import DETECTORS, SPLIT, WEIGHTS

if TYPE_CHECKING:
    from osr.detectors.base import Detector


def extract_part(part: str, params: Params, *, odin: bool = True) -> Outputs:
    """Outputs of the images of one part, in order of rows.

    Args:
        part: train or val (known classes only), test, or background (what training has not seen of it).
        params: all settings.
        odin: False spares the network what `extraction.odin` asks for.
    """
    from osr.detectors.odin import Odin
    from osr.devices import pick_device, set_cpu_threads
    from osr.inference.extraction import extract
    from osr.models.open_set_model import OpenSetModel

    set_cpu_threads(params.train.cpu_threads)
    split = Split.load(SPLIT)
    rows = {
        "train": split.known_rows("train"),
        "val": split.known_rows("val"),
        "test": split.test,
        "background": split.val[split.labels[split.val] == BACKGROUND],
    }[part]
    model = OpenSetModel.load(WEIGHTS)
    return extract(
        model,
        open_part(split, rows, size=model.image_format.size, num_workers=params.train.num_workers),
        index=rows,
        batch_size=params.extraction.batch_size,
        device=pick_device(params.train.accelerator),
        title=f"forward pass, {part}",
        odin=Odin(**params.detectors.odin.model_dump()) if odin and params.extraction.odin else None,
    )


def load_detectors(names: Iterable[str]) -> dict[str, Detector]:
    """What stage fit-openmax has fitted, by name.

    Raises:
        InputError: a file is missing, or no detector of this version.
    """
    from osr.detectors.registry import load_detector

    return {name: load_detector(DETECTORS / f"{name}.safetensors") for name in names}
