"""A classifier as a folder of safetensors and JSON: what is in it, and whether it is as it was written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from osr.errors import InputError
from osr.inference.judgement import check_detector
from osr.settings.base import Count, Section
from osr.stored.files import checked, damaged, file_digest, read_json, write_json, written_whole
from osr.stored.makers import EXPORTED, made_by
from osr.stored.origin import Origin

MANIFEST = "classifier.json"
WEIGHTS = "model.safetensors"
CALIBRATION = "calibration.json"
THRESHOLDS = "thresholds.json"
SCORES = "validation_scores.safetensors"
CARD = "README.md"
GRAPH = "classifier.onnx"
PROGRAM = "classifier.pt2"
NEIGHBOURS = "neighbours.safetensors"
TRAINED_ON = "trained_on.safetensors"


class Recalibration(Section):
    """From what the thresholds were made anew.

    Args:
        version: digest of classifier.json in the folder that this one was made from.
        images: the folder of the images of known classes.
        num_images: how many.
        digest: of their names and files.
        calibrated: whether the calibration of the probabilities was made anew, too.
        num_groups: of how many groups; None where each stands for itself.
    """

    version: str
    images: str
    num_images: Count
    digest: str
    calibrated: bool
    num_groups: Count | None = None


class Manifest(Section):
    """What classifier.json says.

    Args:
        detector: that judges unless another is asked for.
        detectors: all that are in the folder.
        batch_size: images per forward pass.
        versions: of the software that wrote it.
        files: digest of each file, by its name in the folder.
        recalibrated: from what the thresholds were made anew; None where they are those of the run.
    """

    detector: str
    detectors: tuple[str, ...]
    batch_size: Count
    versions: dict[str, str]
    files: dict[str, str]
    recalibrated: Recalibration | None = None


def detector_file(name: str) -> str:
    """Where a detector stands in the folder."""
    return f"detectors/{name}.safetensors"


def write_folder(
    folder: Path,
    sources: Mapping[str, Path],
    *,
    card: str,
    detector: str,
    detectors: tuple[str, ...],
    batch_size: int,
    versions: Mapping[str, str],
    made_from: Origin,
    recalibrated: Recalibration | None = None,
) -> None:
    """Copy the files of a run and describe them; the folder is there whole or not at all.

    Args:
        folder: to be made.
        sources: name in the folder -> file of the run.
        card: Markdown for people.
        detector: that judges unless another is asked for.
        detectors: all of them.
        batch_size: images per forward pass.
        versions: of the software.
        made_from: digests of split, weights, calibration and thresholds.
        recalibrated: see `Manifest`.

    Raises:
        InputError: the folder exists.
    """
    refuse_existing(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(folder) as aside:
        aside.mkdir()
        for name, source in sources.items():
            (aside / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source, aside / name)
        (aside / CARD).write_text(card, encoding="utf-8")
        files = {name: file_digest(aside / name) for name in (*sources, CARD)}
        content = Manifest(
            detector=detector,
            detectors=detectors,
            batch_size=batch_size,
            versions=dict(versions),
            files=files,
            recalibrated=recalibrated,
        )
        said = content.model_dump(mode="json", exclude_none=True)
        write_json(aside / MANIFEST, "classifier", said, made_from)


def refuse_existing(folder: Path) -> None:
    """Raise `InputError` where a folder is to be made that is there already, or in another classifier."""
    if folder.exists():
        raise InputError(f"{folder} exists: choose another name, or remove it.")
    refuse_inside(folder)


def refuse_inside(path: Path) -> None:
    """Raise `InputError` where a file or folder is to be made in the folder of a classifier."""
    holder = next((parent for parent in path.resolve().parents if (parent / MANIFEST).is_file()), None)
    if holder is not None:
        raise InputError(f"{path} lies in the exported classifier {holder}, which must stay as it is.")


def check_is_folder(folder: Path, detector: str | None = None) -> None:
    """Raise `InputError` where there is no folder, no classifier in it, or not the detector asked for."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: `osr export` makes one.")
    if not (folder / MANIFEST).exists():
        raise InputError(f"{folder / MANIFEST} is missing: `osr export` makes such a folder.")
    if detector is not None:
        with made_by(EXPORTED):
            check_detector(detector, _described(folder / MANIFEST).detectors)


def read_manifest(folder: Path) -> Manifest:
    """The description of a folder whose every file is as it was written.

    Raises:
        InputError: a file is missing, was changed, or is not described.
    """
    path = folder / MANIFEST
    check_is_folder(folder)
    manifest = _described(path)
    names = {WEIGHTS, CALIBRATION, THRESHOLDS, SCORES, CARD, *map(detector_file, manifest.detectors)}
    if names != manifest.files.keys() - {GRAPH, PROGRAM, NEIGHBOURS, TRAINED_ON}:
        raise damaged(path, f"files must be {', '.join(sorted(names))}, not {', '.join(manifest.files)}")
    if manifest.detector not in manifest.detectors:
        raise damaged(path, f"detector is {manifest.detector!r}, but must be one of detectors")
    for name, digest in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise InputError(f"{file} is missing: the folder is not whole; export or copy it anew.")
        if file_digest(file) != digest:
            raise InputError(f"{file} was changed after the export: export or copy the folder anew.")
    return manifest


def _described(path: Path) -> Manifest:
    return checked(path, Manifest, read_json(path, "classifier").content)
