"""Command predict: judge new images with the files of the present run, a known class or unknown."""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from osr.data.file_images import read_fitted
from osr.data.image_files import quiet_decoders
from osr.data.walking import find_images
from osr.devices import pick_device, set_cpu_threads
from osr.errors import InputError
from osr.inference.predictor import Predictor
from osr.params import Params, load_params
from pipeline.serving.verdict_file import writing
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


class Judged:
    """Verdicts of files, and what was noticed on the way.

    Args:
        predictor: judges.
        max_pixels: of one image, the setting `dataset.max_pixels`.
        threshold: instead of the fitted one.
    """

    def __init__(self, predictor: Predictor, *, max_pixels: int, threshold: float | None) -> None:
        self.predictor, self.max_pixels, self.threshold = predictor, max_pixels, threshold
        self.converted: Counter[str] = Counter()

    def records(self, paths: Sequence[Path]) -> Iterator[Record]:
        """One per readable image; the others are named in a warning.

        However large the files are, a batch in memory is as large as the network takes it.
        """
        size = self.predictor.batch_size
        with tqdm(total=len(paths), desc="predict", unit="image", disable=None) as bar:
            for start in range(0, len(paths), size):
                names, images = [], []
                for path in paths[start : start + size]:
                    bar.update()
                    try:
                        images.append(self._read(path))
                        names.append(path)
                    except InputError as error:
                        logger.warning("%s", error)
                if images:
                    verdict = self.predictor.predict(images, threshold=self.threshold)
                    yield from _records(self.predictor, names, verdict)

    @quiet_decoders()
    def _read(self, path: Path) -> NDArray[np.uint8]:
        frame, channels = self.predictor.model.image_format.frame, self.predictor.channels
        picture = read_fitted(path, frame, channels=channels, max_pixels=self.max_pixels)
        if picture.converted:
            self.converted[picture.converted] += 1
        return picture.pixels


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
        InputError: a path or a file of the run is missing, no image can be read, or the verdicts cannot be
            written.
    """
    params, (paths, passed) = load_params(PARAMS), find_images(options.paths)
    set_cpu_threads(params.train.cpu_threads)
    with writing(options.output) as write:
        predictor = load_predictor(params, options.detector, allow_code=options.allow_code)
        judged = Judged(predictor, max_pixels=params.dataset.max_pixels, threshold=options.threshold)
        records = list(judged.records(paths))
        if not records:
            raise InputError("None of the images can be read.")
        write(formatted(records, options.format))
    for kind, count in judged.converted.most_common():
        logger.warning("%d images converted: %s", count, kind)
    if passed.counts:
        logger.warning("%s.", passed.sentence)
    return 0 if len(records) == len(paths) else 1
