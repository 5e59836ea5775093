"""The network over one part of the split, and the fitted detectors, for the stages that need them.

PyTorch is imported where it is used: a stage then loads it while the process beside it loads MLflow.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from osr.errors import InputError
from osr.metrics.settings import EvaluateSettings
from osr.metrics.threshold_files import StoredThresholds
from osr.outputs import BACKGROUND, FloatArray, IntArray, Outputs
from osr.params import Params
from osr.progress import announce, counted
from osr.settings.own_code import Allowed
from osr.splits.split import Split
from osr.stored.origin import Origin
from pipeline.images import open_known_source, open_part
from pipeline.workspace.stages import DETECTORS, FEATURES, KNOWN_SOURCES, SPLIT, WEIGHTS
from pipeline.workspace.stamps import check
from pipeline.workspace.swap import afterwards

if TYPE_CHECKING:
    from osr.data.batches import Ordered
    from osr.detectors.base import Detector
    from osr.detectors.network_again import NetworkAgain


EXTRACTION = Path(".osr", "extraction")  # where outputs grow; a killed stage goes on from there


def extract_part(part: str, params: Params, into: Path, *, again: Collection[str] | None = None) -> Outputs:
    """Outputs of the images of one part, in order of rows, written into a folder.

    Args:
        part: train or val (known classes only), test, or background (what training has not seen of it).
        params: all settings.
        into: the folder, an output of the running stage.
        again: the detectors for which the network runs again, of those that `extraction` allows; None: all.
    """
    from osr.devices import pick_device, set_cpu_threads
    from osr.inference.extraction import Stored, extract, outputs_of
    from osr.models.open_set_model import OpenSetModel

    set_cpu_threads(params.train.cpu_threads)
    split = Split.load(SPLIT)
    rows = {
        "train": split.known_rows("train"),
        "val": split.known_rows("val"),
        "test": split.test,
        "background": split.val[split.labels[split.val] == BACKGROUND],
    }[part]
    model = OpenSetModel.load(WEIGHTS, allow_code=params.model.backbone.name)
    check(WEIGHTS, model.made_from, Origin(split=split.digest))
    place = EXTRACTION / part
    stored = Stored.of(params.extraction, place)
    asked = network_again(params, again)
    if not asked and (features := frozen_features(part, rows)) is not None:
        outputs = outputs_of(model, features, labels=split.labels[rows], index=rows, stored=stored)
        return _written(outputs, place, into)
    title = f"forward pass, {part}"
    announce(title, len(rows), "images")
    outputs = extract(
        model,
        open_part(split, rows, frame=model.image_format.frame, num_workers=params.train.num_workers),
        index=rows,
        batch_size=params.extraction.batch_size,
        device=pick_device(params.train.accelerator),
        title=title,
        again=asked,
        stored=stored,
    )
    return _written(outputs, place, into)


def network_again(params: Params, names: Collection[str] | None = None) -> tuple[NetworkAgain, ...]:
    """The detectors for which the network runs again: those that `extraction` allows, or `names` of these."""
    from osr.detectors.odin import Odin
    from osr.detectors.rotpred import RotPred

    allowed: list[NetworkAgain] = [RotPred()] if params.extraction.rotations else []
    if params.extraction.odin:
        allowed.append(Odin(**params.detectors.odin.model_dump()))
    return tuple(each for each in allowed if names is None or each.name in names)


def _written(outputs: Outputs, place: Path, into: Path) -> Outputs:
    """The outputs, written into the folder; where they grew they stay until the stage's results are whole."""
    into.mkdir(parents=True, exist_ok=True)
    for name in ("features", "logits", "odin", "rotation"):
        array = getattr(outputs, name)
        if isinstance(array, np.memmap) and array.filename:
            grown = Path(array.filename)
            try:
                os.link(grown, into / grown.name)
            except OSError:  # a file system without links
                shutil.copyfile(grown, into / grown.name)
    outputs.save(into)
    if place.is_dir():
        afterwards(lambda: shutil.rmtree(place))
    return outputs


def shifted_outputs(params: Params, settings: EvaluateSettings) -> Iterator[tuple[str, str, Outputs]]:
    """Known images under a shift: those of each known source, and the test images under each corruption.

    Args:
        params: all settings.
        settings: `evaluate`, whose corruptions and seed count.

    Yields:
        `sources` with its name or `corruptions` with kind_severity, and the outputs; their index is the row
        in the source, or in the split.
    """
    from osr.data.corruptions import Corrupted
    from osr.devices import pick_device, set_cpu_threads
    from osr.inference.extraction import extract
    from osr.models.open_set_model import OpenSetModel

    set_cpu_threads(params.train.cpu_threads)
    split = Split.load(SPLIT)
    rows = split.known_rows("test")
    model = OpenSetModel.load(WEIGHTS, allow_code=params.model.backbone.name)
    check(WEIGHTS, model.made_from, Origin(split=split.digest))
    frame, num_workers = model.image_format.frame, params.train.num_workers

    def outputs(images: Ordered, index: IntArray, title: str) -> Outputs:
        return extract(
            model,
            images,
            index=index,
            batch_size=params.extraction.batch_size,
            device=pick_device(params.train.accelerator),
            title=f"forward pass, {title}",
            again=network_again(params),
        )

    for folder in sorted(KNOWN_SOURCES.glob("*")):
        source = open_known_source(folder, frame=frame, num_workers=num_workers)
        yield "sources", folder.name, outputs(source, np.arange(len(source)), folder.name)
    images = open_part(split, rows, frame=frame, num_workers=num_workers)
    shifts = list(product(settings.shifts.corruptions, settings.shifts.severities))
    for kind, severity in counted(shifts, "corrupted test images", "kinds and severities"):
        name = f"{kind}_{severity}"
        yield "corruptions", name, outputs(Corrupted(images, rows, kind, severity, settings.seed), rows, name)


def frozen_features(part: str, rows: IntArray) -> FloatArray | None:
    """(N, D) float32 of `rows`, which a training with a frozen backbone has left; None where it has not."""
    folder = FEATURES / part
    if not folder.is_dir():
        return None
    index: IntArray = np.load(folder / "index.npy", allow_pickle=False)
    if not np.array_equal(index, rows):
        raise InputError(f"{folder} holds the features of other images: run `osr run --force train`.")
    features: FloatArray = np.load(folder / "features.npy", allow_pickle=False)
    return features


def load_detectors(
    names: Iterable[str], thresholds: StoredThresholds, *, allow_code: Allowed = None
) -> dict[str, Detector]:
    """What stage fit-openmax has fitted, by name.

    Args:
        names: which.
        thresholds: of the same run.
        allow_code: each `module:Class` that may be imported for them.

    Raises:
        InputError: a file is missing, no detector of this version, or of another run than the thresholds.
    """
    from osr.detectors.registry import load_detector

    detectors = {}
    for name in names:
        path = DETECTORS / f"{name}.safetensors"
        detectors[name] = load_detector(path, allow_code=allow_code)
        check(path, detectors[name].made_from, thresholds.made_from)
        thresholds.check_detector(path, name, detectors[name].digest)
    return detectors
