"""Stage fit-openmax: fit every enabled detector, OpenMax among them, and thresholds on validation knowns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from osr.detectors.settings import DetectorsSettings
from osr.errors import InputError
from osr.metrics.groups import groups_of
from osr.metrics.threshold_files import PREDICTION, save_thresholds
from osr.metrics.thresholds import (
    Threshold,
    fit_background_threshold,
    fit_class_thresholds,
    fit_threshold,
)
from osr.outputs import Outputs
from osr.params import Params
from osr.progress import counted
from osr.splits.split import Split
from osr.stored.arrays import write_arrays
from pipeline.entry import Metrics, run_stage
from pipeline.inference import extract_part
from pipeline.tracking.stage_run import Row
from pipeline.workspace.own_files import check_deps
from pipeline.workspace.stages import (
    BACKGROUND_OUTPUTS,
    DETECTORS,
    SPLIT,
    THRESHOLDS,
    TRAIN_OUTPUTS,
    VAL_OUTPUTS,
    VAL_SCORES,
)
from pipeline.workspace.swap import new

if TYPE_CHECKING:
    from osr.detectors.base import Detector

Scores = NDArray[np.float64]


def fit_openmax(params: Params, _row: Row) -> Metrics:
    """Write the training outputs, the detectors, validation scores and thresholds; return the thresholds."""
    from osr.detectors.registry import build_detectors

    settings = params.detectors
    check_deps("fit-openmax", settings.own)
    train = extract_part("train", params, new(TRAIN_OUTPUTS), again=settings.ranked)
    val, background = Outputs.load(VAL_OUTPUTS), None
    if settings.threshold_rule == "background":
        background = extract_part("background", params, new(BACKGROUND_OUTPUTS))
    split = Split.load(SPLIT)
    groups, scores = groups_of(split, val), dict[str, Scores]()
    thresholds, digests = dict[str, Threshold](), dict[str, str]()
    detectors = build_detectors(settings)
    for name, detector in counted(detectors.items(), "fit detectors", "detectors"):
        fitted = _fitted(detector, train, split, beside=[detectors[done] for done in digests])
        digests[name] = fitted.save(new(DETECTORS / f"{name}.safetensors"))
        scores[name] = detector.score(val)
        not_known = None if background is None else detector.score(background)
        if settings.threshold_rule == "conformal_per_class":
            thresholds[name] = fit_class_thresholds(
                scores[name],
                val.predictions,
                class_names=split.known_names,
                target_acceptance=settings.target_acceptance,
                groups=groups,
            )
        else:
            thresholds[name] = threshold_of(scores[name], not_known, settings, groups)
    digest = save_thresholds(new(THRESHOLDS), thresholds, digests, train.made_from)
    made_from = train.made_from.model_copy(update={"thresholds": digest})
    arrays = {**scores, **({} if groups is None else {"group": groups})}
    if settings.threshold_rule == "conformal_per_class":
        arrays[PREDICTION] = val.predictions
    write_arrays(new(VAL_SCORES), "validation scores", {}, made_from, arrays)
    return {
        "threshold": {name: fit.value for name, fit in thresholds.items()},
        "val_known_acceptance": {name: fit.acceptance for name, fit in thresholds.items()},
        "train_correct_fraction": float(train.correct.mean()),
    }


def _fitted(detector: Detector, train: Outputs, split: Split, beside: Iterable[Detector] = ()) -> Detector:
    from osr.detectors.classes import TooFewImagesError

    try:
        return detector.fit(train, beside=beside)
    except TooFewImagesError as error:  # which knows numbers alone
        name = split.known_names[error.number]
        raise InputError(f"{error} Class {error.number} is {name!r}.") from None


def threshold_of(
    scores: Scores,
    background: Scores | None,
    settings: DetectorsSettings,
    groups: NDArray[np.int64] | None = None,
) -> Threshold:
    """The threshold of one detector by the rule of the settings, which is not per class.

    Args:
        scores: (N,) of validation knowns.
        background: (M,) of background images that training has not seen; for that rule only.
        settings: the section `detectors`.
        groups: (N,) of the validation knowns; None where each stands for itself.
    """
    if background is not None:
        return fit_background_threshold(
            scores, background, target_false_acceptance=settings.target_false_acceptance
        )
    conformal = settings.threshold_rule == "conformal"
    return fit_threshold(
        scores, target_acceptance=settings.target_acceptance, conformal=conformal, groups=groups
    )


if __name__ == "__main__":
    run_stage("fit-openmax", fit_openmax, __doc__)
