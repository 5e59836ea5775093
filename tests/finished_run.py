"""A small finished run on disk, of made-up features and images, for tests of what is made from results."""

from dataclasses import replace

import numpy as np
from ruamel.yaml import YAML

from osr.calibration.calibrators import CalibrationFit, Temperature
from osr.calibration.files import save_calibration
from osr.detectors.registry import build_detectors
from osr.metrics.groups import groups_of
from osr.metrics.threshold_files import save_thresholds
from osr.metrics.thresholds import fit_threshold
from osr.outputs import Outputs
from osr.params import check_params
from osr.splits.split import Split
from osr.stored.arrays import write_arrays
from osr.stored.files import read_plain_json
from osr.stored.origin import Origin
from pipeline import evaluate
from pipeline.tracking.stage_run import Row
from pipeline.workspace import stages
from pipeline.workspace.files import write_json
from pipeline.workspace.stamps import write_stamp

NAMES = ("cat", 'dog <b>&"', "owl", "fox", "eel")
PER_CLASS = 40  # in each part; the first three classes are known, the last two unknown


class Negative:
    """A detector: minus the largest logit, or minus the sum of the positive ones."""

    def __init__(self, name):
        self.name = name

    def score(self, outputs):
        logits = outputs.logits.astype(np.float64)
        return -logits.max(axis=1) if self.name == "maxlogit" else -np.maximum(logits, 0).sum(axis=1)


def outputs_of(split, rows):
    generator = np.random.default_rng(int(rows[0]))
    directions = np.vstack([4 * np.eye(3, 6), [[1.5, 1.5, 0, 2, 0, 0], [0, 2.5, 0, 0, 2, 0]]])
    noise = generator.normal(size=(len(rows), 6))
    features = (directions[split.targets[rows]] + noise).astype(np.float32)
    weight = np.eye(3, 6, dtype=np.float32)
    return Outputs(
        logits=features @ weight.T,
        features=features,
        labels=split.labels[rows],
        index=rows,
        weight=weight,
        bias=np.zeros(3, np.float32),
    )


def split_of(*, duplicates=False, unknowns=True, group_size=None):
    """Train, validation and test rows of five classes or three; a test image may stand in training, too."""
    targets = np.arange(5).repeat(3 * PER_CLASS)
    place = np.tile(np.arange(3).repeat(PER_CLASS), 5)
    known = targets < 3
    hashes = np.arange(len(targets), dtype=np.uint64)
    if duplicates:
        hashes[2 * PER_CLASS] = 0
    return Split(
        targets=targets,
        class_names=NAMES,
        known=(0, 1, 2),
        background=(),
        unknown=(3, 4) if unknowns else (),
        train=np.flatnonzero(known & (place == 0)),
        val=np.flatnonzero(known & (place == 1)),
        test=np.flatnonzero((place == 2) & (known | unknowns)),
        hashes=hashes,
        groups=None if group_size is None else np.arange(len(targets)) // group_size,
    )


def make(root, monkeypatch, *, params, duplicates=False, unknowns=True, group_size=None):
    """Write the results of every stage before plot into `root`, which becomes the working directory."""
    monkeypatch.chdir(root)
    for folder in (stages.SPLIT, stages.MODEL, stages.CALIBRATION, stages.DETECTORS):
        folder.mkdir(parents=True)
    split = split_of(duplicates=duplicates, unknowns=unknowns, group_size=group_size)
    split.save(stages.SPLIT)
    images = np.random.default_rng(0).integers(0, 256, (len(split.targets), 8, 8, 1), dtype=np.uint8)
    np.save(stages.IMAGES, images)
    stages.HISTORY.write_text(
        "epoch,train/loss,train/accuracy,val/loss,val/accuracy\n1,1,0.5,1,0.5\n2,0.5,0.7,0.6,0.7\n"
    )
    write_json(
        stages.STAGES["train"].metrics, {"best": {"epoch": 2, "val_accuracy": 0.7}, "parameters": 1234}
    )
    weights = write_arrays(stages.WEIGHTS, "weights", {}, Origin(split=split.digest), {"w": np.ones(2)})
    write_stamp("train", read_plain_json(stages.STAGES["train"].metrics))
    made_from = Origin(split=split.digest, weights=weights)
    fit = CalibrationFit(Temperature(1.5), "temperature", None, None, 120, 0.5, 0.4)
    save_calibration(stages.CALIBRATOR, fit, made_from)
    validation = outputs_of(split, split.val)
    scores = {name: Negative(name).score(validation) for name in params.detectors.enabled}
    groups = groups_of(split, validation)
    fits = {
        name: fit_threshold(values, target_acceptance=0.95, groups=groups) for name, values in scores.items()
    }
    digest = save_thresholds(stages.THRESHOLDS, fits, dict.fromkeys(fits, "0" * 16), made_from)
    scored = made_from.model_copy(update={"thresholds": digest})
    grouped = {} if groups is None else {"group": groups}
    write_arrays(stages.VAL_SCORES, "validation scores", {}, scored, {**scores, **grouped})

    def extract_part(part, _params, into):
        outputs = replace(outputs_of(split, split.rows(part)), made_from=made_from)
        outputs.save(into)
        return outputs

    monkeypatch.setattr(evaluate, "extract_part", extract_part)
    detectors = {name: Negative(name) for name in params.detectors.enabled}
    replace(validation, made_from=made_from).save(stages.VAL_OUTPUTS)
    if not unknowns:  # the estimate fits detectors anew, so that they must be real ones
        replace(outputs_of(split, split.train), made_from=made_from).save(stages.TRAIN_OUTPUTS)
        detectors = build_detectors(params.detectors)
    monkeypatch.setattr(evaluate, "load_detectors", lambda _names, _limits, **_: detectors)
    metrics = evaluate.evaluate(params, Row())
    write_stamp("evaluate", metrics)
    write_json(stages.STAGES["evaluate"].metrics, metrics)


def params_of(root):
    """The shipped settings with two detectors and little work."""

    content = YAML(typ="safe", pure=True).load((root / "params.yaml").read_text(encoding="utf-8"))
    content["detectors"]["enabled"] = ["maxlogit", "energy"]
    content["evaluate"]["bootstrap_replicates"] = 100
    content["plot"] |= {"detector": "maxlogit", "dpi": 60, "gallery_images": 5}
    return check_params(content, source="params.yaml")
