"""Which settings make two runs runs of different experiments."""

from __future__ import annotations

from osr.data.settings import FLIP_SAFE
from osr.params import Params

# Where and how a run is computed; beyond rounding, only the batch norm of several devices differs.
WHERE_AND_HOW = (
    "dataset.root",
    "dataset.download",
    "train.accelerator",
    "train.cpu_threads",
    "train.num_workers",
    "train.channels_last",
    "train.compile",
    "train.devices",
    "train.num_nodes",
    "train.strategy",
    "extraction.batch_size",
    "extraction.store",
)


def decides(key: str, params: Params) -> bool:
    """Whether two runs that differ in this param are runs of different experiments.

    Not where they say where and how a run is computed, or how its figures look. Of data that are your own
    the folder says which they are, so there dataset.root decides, too.

    Args:
        key: dotted.
        params: of the experiment.
    """
    if key == "dataset.root":
        others = (*params.dataset.unknown_sources, *params.dataset.known_sources)
        names = {params.dataset.name, *(source.name for source in others)}
        return not names <= FLIP_SAFE.keys()
    return not key.startswith("plot.") and key not in WHERE_AND_HOW
