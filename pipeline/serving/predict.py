"""Command predict: judge new images with the files of the present run, a known class or unknown."""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from osr.data.image_files import find_images, read_image
from osr.devices import pick_device, set_cpu_threads
from osr.errors import InputError
from osr.inference.predictor import Predictor
from osr.params import Params, load_params
from pipeline.workspace.stages import CALIBRATOR, DETECTORS, PARAMS, THRESHOLDS, WEIGHTS

logger = logging.getLogger("osr.predict")

Record = dict[str, Any]


def load_predictor(
    params: Params, detector: str | None = None, *, allow_code: str | None = None
) -> Predictor:
    """The classifier of the files in the working directory.

    Args:
        params: of the run.
        detector: one of detectors.enabled; None means plot.detector.
        allow_code: the `module:Class` that may be imported for the network; None means that of the params.

    Raises:
        InputError: no such detector, or a file is missing, damaged, or of another run than the others.
    """
    name = detector or params.plot.detector
    if name not in params.detectors.enabled:
        raise InputError(
            f"--detector {name}: must be one of detectors.enabled: {', '.join(params.detectors.enabled)}."
        )
    return Predictor.load(
        **run_files(name),
        batch_size=params.extraction.batch_size,
        device=pick_device(params.train.accelerator),
        allow_code=allow_code or params.model.backbone.name,
    )


def run_files(detector: str) -> dict[str, Path]:
    """The files of the present run that make its predictor, by the names of `Predictor.load`."""
    fitted = DETECTORS / f"{detector}.safetensors"
    return {"weights": WEIGHTS, "calibration": CALIBRATOR, "detector": fitted, "thresholds": THRESHOLDS}


def judge(predictor: Predictor, paths: Sequence[Path], threshold: float | None) -> Iterator[Record]:
    """One record per readable image; the others are named in a warning."""
    with tqdm(total=len(paths), desc="predict", unit="image", disable=None) as bar:
        for start in range(0, len(paths), predictor.batch_size):
            names, images = [], []
            for path in paths[start : start + predictor.batch_size]:
                bar.update()
                try:
                    images.append(read_image(path, channels=predictor.channels))
                    names.append(path)
                except InputError as error:
                    logger.warning("%s", error)
            if images:
                yield from _records(predictor, names, predictor.predict(images, threshold=threshold))


def _records(predictor: Predictor, names: Sequence[Path], verdict: Any) -> Iterator[Record]:
    for row, path in enumerate(names):
        probabilities = verdict.probabilities[row]
        yield {
            "file": str(path),
            "label": verdict.labels[row],
            "score": float(verdict.scores[row]),
            "nearest": predictor.class_names[verdict.predictions[row]],
            **{f"p/{name}": float(p) for name, p in zip(predictor.class_names, probabilities, strict=True)},
        }


def formatted(records: Sequence[Record], form: str) -> str:
    """The records as csv or json."""
    if form == "json":
        return json.dumps(records, indent=2) + "\n"
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def run(options: argparse.Namespace) -> int:
    """Judge images; the status is 1 when one could not be read.

    Raises:
        InputError: a path or a file of the run is missing, or no image can be read.
    """
    params, paths = load_params(PARAMS), find_images(options.paths)
    set_cpu_threads(params.train.cpu_threads)
    predictor = load_predictor(params, options.detector, allow_code=options.allow_code)
    records = list(judge(predictor, paths, options.threshold))
    if not records:
        raise InputError("None of the images can be read.")
    text = formatted(records, options.format)
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text, encoding="utf-8")
    return 0 if len(records) == len(paths) else 1
