"""What stage evaluate estimates where no unknown image is tested: the known classes are left out in turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osr.metrics.groups import groups_of
from osr.metrics.settings import EvaluateSettings
from osr.metrics.thresholds import Threshold, threshold_like
from osr.outputs import IntArray, Outputs
from osr.splits.split import Split
from osr.stored.files import write_json
from osr.stored.origin import Origin
from pipeline.workspace.stages import BACKGROUND_OUTPUTS, ESTIMATE, TRAIN_OUTPUTS, VAL_OUTPUTS
from pipeline.workspace.stamps import check

if TYPE_CHECKING:
    from osr.detectors.base import Detector


def estimate(
    test: Outputs,
    detectors: Mapping[str, Detector],
    fit: Threshold,
    *,
    split: Split,
    settings: EvaluateSettings,
    made_from: Origin,
) -> dict[str, Any]:
    """Write each class's fate when left out, or why there is none; return the metrics, all of them estimates.

    Args:
        test: outputs of the test images, all of known classes.
        detectors: as stage fit-openmax has fitted them.
        fit: the threshold of any of them; all have one rule and target.
        split: the classes and groups.
        settings: the section `evaluate`.
        made_from: what the test scores are made from.
    """
    from osr.estimation.folds import FEWEST_CLASSES
    from osr.estimation.rejection import Stored, estimate_rejection

    if settings.estimate_folds == 0 or len(split.known) < FEWEST_CLASSES:
        reason = (
            "evaluate.estimate_folds is 0"
            if settings.estimate_folds == 0
            else f"with {len(split.known)} known classes none can be left out"
        )
        write_json(ESTIMATE, "estimate", {"reason": reason}, made_from)
        return {}

    def stored(path: Path) -> Outputs:
        found = Outputs.load(path)
        check(path, found.made_from, test.made_from)
        return found

    val = stored(VAL_OUTPUTS)
    groups = groups_of(split, val)

    def threshold_of(
        scores: NDArray[np.float64], background: NDArray[np.float64] | None, rows: IntArray
    ) -> Threshold:
        return threshold_like(fit, scores, background, None if groups is None else groups[rows])

    background = stored(BACKGROUND_OUTPUTS) if fit.rule == "background" else None
    found = estimate_rejection(
        Stored(stored(TRAIN_OUTPUTS), val, test, background),
        detectors,
        threshold_of=threshold_of,
        names=split.known_names,
        num_folds=settings.estimate_folds,
        seed=settings.seed,
    )
    write_json(
        ESTIMATE,
        "estimate",
        {
            "folds": found.num_folds,
            "left_out": dict(found.left_out),
            "classes": {
                name: [{"fold": row.fold, **asdict(row.row), **row.values} for row in rows]
                for name, rows in found.classes.items()
            },
        },
        made_from,
    )
    heads = {"accuracy": found.accuracy, "accuracy_of_trained_head": found.accuracy_of_head}
    sizes = {"folds": found.num_folds, "classes": len(split.known)}
    return {"estimate": {**found.metrics(settings.confidence), **heads, **sizes}}
