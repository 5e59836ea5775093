"""Command export: the classifier of a finished run as one folder of safetensors and JSON."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
from collections.abc import Collection
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from osr.data.images import ImageFiles
from osr.errors import InputError
from osr.inference import folder as stored
from osr.inference.parts import Parts, load_parts, own_code
from osr.inference.trained_on import TrainedOn
from osr.inference.training_images import SIDE, TrainingImages, chosen_rows, thumbnail, unit_float16
from osr.outputs import Outputs
from osr.params import Params, load_params
from osr.settings.own_code import file_name
from osr.splits.split import Split
from osr.stored.files import read_header
from osr.stored.origin import Origin
from osr.version import VERSION
from pipeline.images import open_images
from pipeline.report.judge import judge_of
from pipeline.serving.card import card, reservations
from pipeline.workspace.lock import settings_since
from pipeline.workspace.stages import (
    CALIBRATOR,
    DETECTORS,
    PARAMS,
    SPLIT,
    THRESHOLDS,
    TRAIN_OUTPUTS,
    VAL_SCORES,
    WEIGHTS,
)
from pipeline.workspace.stamps import check, check_stamps, present

PRESENT = "present"
GRAPHS = (stored.GRAPH, stored.PROGRAM)
logger = logging.getLogger("osr.export")
LIBRARIES = ("torch", "numpy", "safetensors", "timm")


def export(
    folder: Path,
    params: Params,
    *,
    detector: str | None = None,
    graphs: Collection[str] = (),
    neighbours: int = 0,
) -> Parts:
    """Write the classifier of the run in the working directory; return what judges in it.

    Args:
        folder: to be made.
        params: of the run.
        detector: that judges unless another is asked for; None means plot.detector.
        graphs: those of GRAPHS that are to be in it; they judge with this detector alone.
        neighbours: how many training images of each known class are to be in it.

    Raises:
        InputError: the folder exists, no such detector, a file of the run is missing, damaged, or of another
            run than the others, or the run has no graph.
    """
    enabled, used = params.detectors.enabled, judge_of(params, detector)
    check_stamps("plot")
    if since := settings_since():
        logger.warning("%s", since)
    files = {name: DETECTORS / f"{name}.safetensors" for name in enabled}
    parts = load_parts(
        weights=WEIGHTS,
        calibration=CALIBRATOR,
        detectors=list(files.values()),
        thresholds=THRESHOLDS,
        allow_code=params.own_code,
    )
    at_hand = present("split", "weights", "calibration", "thresholds")
    check(WEIGHTS, parts.model.made_from, at_hand.only("split"))
    check(VAL_SCORES, read_header(VAL_SCORES, "validation scores").made_from, at_hand.only("thresholds"))
    versions = software()
    stored.refuse_existing(folder)
    with tempfile.TemporaryDirectory() as aside:
        stored.write_folder(
            folder,
            {
                stored.WEIGHTS: WEIGHTS,
                stored.CALIBRATION: CALIBRATOR,
                stored.THRESHOLDS: THRESHOLDS,
                stored.SCORES: VAL_SCORES,
                **{stored.detector_file(name): file for name, file in files.items()},
                **write_graphs(Path(aside), graphs, parts, used, params.extraction.batch_size),
                **_neighbours(Path(aside), neighbours, parts.model.origin),
                **_trained_on(Path(aside), parts.model.origin),
            },
            card=card(parts, params, used, versions, neighbours),
            detector=used,
            detectors=enabled,
            batch_size=params.extraction.batch_size,
            versions=versions,
            made_from=at_hand,
        )
    return parts


def write_graphs(
    aside: Path, graphs: Collection[str], parts: Parts, detector: str, batch_size: int
) -> dict[str, Path]:
    """Name in the folder -> file aside.

    Args:
        aside: a folder.
        graphs: some of GRAPHS.
        parts: what judges.
        detector: the one that judges in them.
        batch_size: of the classifier.

    Raises:
        InputError: the run has no graph, or the packages that write one are not there.
    """
    if not graphs:
        return {}
    from osr.inference.graph_files import describe, record, write_onnx, write_program

    program, description = record(parts, detector), describe(parts, detector, batch_size)
    writers = {stored.GRAPH: write_onnx, stored.PROGRAM: write_program}
    for name in graphs:
        writers[name](aside / name, program, description)
    return {name: aside / name for name in graphs}


def _neighbours(aside: Path, per_class: int, origin: Origin) -> dict[str, Path]:
    """Name in the folder -> file aside."""
    if not per_class:
        return {}
    outputs, images = Outputs.load(TRAIN_OUTPUTS), open_images()
    check(TRAIN_OUTPUTS, outputs.made_from, origin)
    rows = chosen_rows(outputs.labels, per_class)
    read = partial(images.read, at_least=SIDE) if isinstance(images, ImageFiles) else images.__getitem__
    made = TrainingImages(
        thumbnails=np.stack([thumbnail(read(row)) for row in outputs.index[rows].tolist()]),
        features=unit_float16(outputs.features[rows]),
        labels=outputs.labels[rows],
    )
    made.save(aside / stored.NEIGHBOURS, origin)
    return {stored.NEIGHBOURS: aside / stored.NEIGHBOURS}


def _trained_on(aside: Path, origin: Origin) -> dict[str, Path]:
    """Name in the folder -> file aside; nothing where the split has no hashes."""
    split, images = Split.load(SPLIT), open_images()
    if split.hashes is None:
        return {}
    size = None if isinstance(images, ImageFiles) else (images.shape[2], images.shape[1])
    hashes = np.unique(split.hashes[split.known_rows("train")])
    TrainedOn(hashes, size).save(aside / stored.TRAINED_ON, origin)
    return {stored.TRAINED_ON: aside / stored.TRAINED_ON}


def software() -> dict[str, str]:
    """The versions of osr and of what it computes with."""
    return {"osr": VERSION, **{name: version(name) for name in LIBRARIES}}


def run(options: argparse.Namespace) -> int:
    """Command export.

    Raises:
        InputError: see `export`; or the run is no folder of a project.
    """
    folder = options.out.absolute()
    project = Path() if options.run == PRESENT else Path(options.run)
    if not project.is_dir():
        raise InputError(f"{project} must be {PRESENT}, or the folder of a project with a finished run.")
    with contextlib.chdir(project):
        params = load_params(PARAMS)
        chosen = (options.onnx, options.torch_export)
        graphs = [name for name, wanted in zip(GRAPHS, chosen, strict=True) if wanted]
        parts = export(
            folder,
            params,
            detector=options.detector,
            graphs=graphs,
            neighbours=options.neighbours or 0,
        )
        for told in reservations(judge_of(params, options.detector)):
            logger.warning(told)
    own = own_code(parts)
    allowed = f", allow_code={own[0] if len(own) == 1 else list(own)!r}" if own else ""
    sys.stdout.write(f'{options.out}: in Python osr.load("{options.out}"{allowed}).predict("photo.png")\n')
    for name in own:
        sys.stdout.write(f"{name} is code of your own: put {file_name(name)} where it is loaded\n")
    return 0
