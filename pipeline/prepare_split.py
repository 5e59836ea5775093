"""Stage prepare-split: choose the classes, divide the images, refuse leaks."""

from __future__ import annotations

import numpy as np

from osr.config import Params
from osr.data.datasets import DATASETS
from osr.metrics import openness
from osr.protocols.classes import protocol_classes, resolve_classes
from osr.splits import PARTS, make_split
from pipeline.entry import Metrics, run_stage
from pipeline.stages import IMAGES, SPLIT
from pipeline.tracking import Row


def prepare_split(params: Params, _row: Row) -> Metrics:
    """Write the images, the manifest and the split; return counts."""
    data, settings = DATASETS[params.dataset.name](), params.split
    if settings.protocol == "explicit":
        known = resolve_classes(settings.known, data.class_names, key="split.known")
        unknown = resolve_classes(settings.unknown, data.class_names, key="split.unknown")
    else:
        num_classes = len(data.class_names)
        known, unknown = protocol_classes(settings.protocol, params.dataset.name, settings.trial, num_classes)
    split = make_split(
        data.targets,
        data.class_names,
        known=known,
        unknown=unknown,
        val_fraction=settings.val_fraction,
        test_fraction=settings.test_fraction,
        seed=settings.seed,
    )
    SPLIT.mkdir(parents=True, exist_ok=True)
    np.save(IMAGES, data.images, allow_pickle=False)
    split.save(SPLIT)
    counts = {part: len(split.rows(part)) for part in PARTS}
    unknown_test = int((split.labels[split.test] < 0).sum())
    return {
        "images": {**counts, "test_known": counts["test"] - unknown_test, "test_unknown": unknown_test},
        "classes": {"known": len(known), "unknown": len(unknown)},
        "openness": openness(len(known), len(unknown)),
    }


if __name__ == "__main__":
    run_stage("prepare-split", prepare_split, __doc__)
