"""The files that make a classifier, read together: all of one run, or none is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from osr.calibration.calibrators import Calibration
from osr.calibration.files import load_calibration
from osr.detectors.base import Detector
from osr.detectors.registry import load_detector, members_of
from osr.metrics.threshold_files import StoredThresholds, load_thresholds
from osr.metrics.thresholds import Threshold
from osr.models.forward import ready
from osr.models.open_set_model import OpenSetModel
from osr.settings.own_code import Allowed, is_custom
from osr.stored.files import damaged
from osr.stored.origin import Origin, check_origin


class Parts(NamedTuple):
    """Network, calibration, detectors with their thresholds by name, and the file of the thresholds.

    `made_from` has the digests of all of these.
    """

    model: OpenSetModel
    calibration: Calibration
    detectors: dict[str, tuple[Detector, Threshold]]
    thresholds: StoredThresholds
    made_from: Origin = Origin()


def own_code(parts: Parts) -> tuple[str, ...]:
    """Each `module:Class` of somebody's own that judges: what loading the parts again has to allow."""
    names = [parts.model.settings.backbone.name]
    for detector, _ in parts.detectors.values():
        names += [found.name for found in members_of(detector)]
    return tuple(dict.fromkeys(filter(is_custom, names)))


def load_parts(
    *,
    weights: Path,
    calibration: Path,
    detectors: Sequence[Path],
    thresholds: Path,
    device: torch.device | str = "cpu",
    allow_code: Allowed = None,
) -> Parts:
    """Read the files of a run; never runs stored code.

    Args:
        weights: what `OpenSetModel.save` wrote.
        calibration: what `save_calibration` wrote.
        detectors: what `Detector.save` wrote, a file each.
        thresholds: what `save_thresholds` wrote.
        device: where network and detectors compute.
        allow_code: each `module:Class` that may be imported for network and detectors; None for none.

    Raises:
        InputError: a file is missing, damaged, was changed, or was made from other weights, another split or
            another fit of a detector than the rest; or a detector lacks a threshold for all or for a class.
    """
    stored, limits = load_calibration(calibration), load_thresholds(thresholds)
    fitted = {path: load_detector(path, device=device, allow_code=allow_code) for path in detectors}
    model = OpenSetModel.load(weights, allow_code=allow_code)
    origins = {calibration: stored.made_from, **{path: found.made_from for path, found in fitted.items()}}
    for path, made_from in (*origins.items(), (thresholds, limits.made_from)):
        check_origin(path, made_from, model.origin, beside=weights)
    num_classes = len(model.class_names)
    if stored.num_classes not in (None, num_classes):
        raise damaged(calibration, f"it is of {stored.num_classes} classes, {weights} of {num_classes}")
    with_thresholds = {
        found.name: (found, limits.check_detector(path, found.name, found.digest))
        for path, found in fitted.items()
    }
    for _, fit in with_thresholds.values():
        if fit.per_class is not None and len(fit.per_class) != num_classes:
            told = f"it has thresholds of {len(fit.per_class)} classes, {weights} is of {num_classes}"
            raise damaged(thresholds, told)
    made_from = model.origin.model_copy(update={"calibration": stored.digest, "thresholds": limits.digest})
    return Parts(ready(model, device), stored.fit.calibration, with_thresholds, limits, made_from)
