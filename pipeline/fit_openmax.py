"""Stage fit-openmax: fit every enabled detector, OpenMax among them, and thresholds on validation knowns."""

from __future__ import annotations

from dataclasses import asdict

from osr.config import Params
from osr.detectors.registry import build_detectors
from osr.outputs import Outputs
from osr.thresholds import fit_threshold
from pipeline.entry import Metrics, run_stage, write_json
from pipeline.inference import extract_part
from pipeline.stages import DETECTORS, THRESHOLDS, TRAIN_OUTPUTS, VAL_OUTPUTS
from pipeline.tracking import Row


def fit_openmax(params: Params, _row: Row) -> Metrics:
    """Write the training outputs, the detectors and their thresholds; return the thresholds."""
    train, val = extract_part("train", params), Outputs.load(VAL_OUTPUTS)
    train.save(TRAIN_OUTPUTS)
    thresholds = {}
    for name, detector in build_detectors(params.detectors).items():
        detector.fit(train).save(DETECTORS / f"{name}.safetensors")
        fit = fit_threshold(detector.score(val), target_acceptance=params.detectors.target_acceptance)
        thresholds[name] = asdict(fit)
    write_json(THRESHOLDS, thresholds)
    return {
        "threshold": {name: fit["value"] for name, fit in thresholds.items()},
        "val_known_acceptance": {name: fit["acceptance"] for name, fit in thresholds.items()},
        "train_correct_fraction": float(train.correct.mean()),
    }


if __name__ == "__main__":
    run_stage("fit-openmax", fit_openmax, __doc__)
