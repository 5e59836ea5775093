"""What stage evaluate estimates where no unknown image is tested: the known classes are left out in turn."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osr.errors import InputError
from osr.metrics.groups import groups_of
from osr.metrics.thresholds import Threshold, threshold_like
from osr.outputs import IntArray, Outputs
from osr.params import Params
from osr.splits.split import Split
from osr.stored.files import write_json
from osr.stored.origin import Origin
from pipeline.workspace.stages import BACKGROUND_OUTPUTS, ESTIMATE, TRAIN_OUTPUTS, VAL_OUTPUTS
from pipeline.workspace.stamps import check
from pipeline.workspace.swap import new

if TYPE_CHECKING:
    from osr.detectors.base import Detector
    from osr.estimation.rejection import Estimate, Stored

logger = logging.getLogger("osr")


def estimate(
    test: Outputs,
    detectors: Mapping[str, Detector],
    fit: Threshold,
    *,
    split: Split,
    params: Params,
    made_from: Origin,
) -> dict[str, Any]:
    """Write each class's fate when left out, or why there is none; return the metrics, all of them estimates.

    Args:
        test: outputs of the test images, all of known classes.
        detectors: as stage fit-openmax has fitted them.
        fit: the threshold of any of them; all have one rule and target.
        split: the classes and groups.
        params: all settings; `evaluate` and `train.probe` count.
        made_from: what the test scores are made from.
    """
    stored = _stored(test, background=fit.rule == "background")
    try:
        found = left_out(stored, detectors, fit, split, params, similar=False)
    except InputError as error:  # the run stands without an estimate; the reason is shown in its place
        logger.warning("evaluate: no estimate of rejection: %s", error)
        write_json(new(ESTIMATE), "estimate", {"reason": str(error).rstrip(".")}, made_from)
        return {}
    content = {
        "folds": found.num_folds,
        "left_out": dict(found.left_out),
        "classes": {
            name: [{"fold": row.fold, **asdict(row.row), **row.values} for row in rows]
            for name, rows in found.classes.items()
        },
    }
    write_json(new(ESTIMATE), "estimate", content, made_from)
    heads = {"accuracy": found.accuracy, "accuracy_of_trained_head": found.accuracy_of_head}
    sizes = {"folds": found.num_folds, "classes": len(split.known)}
    return {"estimate": {**found.metrics(params.evaluate.confidence), **heads, **sizes}}


def _stored(test: Outputs, *, background: bool) -> Stored:
    """The outputs of the earlier stages.

    Raises:
        InputError: they are of another network than those of the test images.
    """
    from osr.estimation.rejection import Stored

    def read(path: Path) -> Outputs:
        found = Outputs.load(path)
        check(path, found.made_from, test.made_from)
        return found

    others = read(BACKGROUND_OUTPUTS) if background else None
    return Stored(read(TRAIN_OUTPUTS), read(VAL_OUTPUTS), test, others)


def left_out(
    stored: Stored,
    detectors: Mapping[str, Detector],
    fit: Threshold,
    split: Split,
    params: Params,
    *,
    similar: bool,
) -> Estimate:
    """Each known class left out once, together with similar ones or with some that are drawn at random.

    Raises:
        InputError: there is no estimate, and why.
    """
    from osr.estimation.folds import FEWEST_CLASSES, class_folds, similar_folds
    from osr.estimation.rejection import estimate_rejection

    if params.evaluate.estimate_folds == 0:
        raise InputError("evaluate.estimate_folds is 0")
    if len(split.known) < FEWEST_CLASSES:
        raise InputError(f"with {len(split.known)} known classes none can be left out")
    groups, num_folds = groups_of(split, stored.val), params.evaluate.estimate_folds

    def threshold_of(
        scores: NDArray[np.float64], background: NDArray[np.float64] | None, rows: IntArray
    ) -> Threshold:
        return threshold_like(fit, scores, background, None if groups is None else groups[rows])

    return estimate_rejection(
        stored,
        detectors,
        threshold_of=threshold_of,
        names=split.known_names,
        folds=similar_folds(stored.train, num_folds)
        if similar
        else class_folds(len(split.known), num_folds, seed=params.evaluate.seed),
        probe=params.train.probe,
        title=f"{'choose the judge' if similar else 'estimate rejection'}, leaving classes out",
    )
