"""Command recalibrate: a new version of an exported classifier, its thresholds made from new known images."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from osr.calibration.calibrators import CalibrationFit, fit_calibration
from osr.calibration.files import load_calibration, save_calibration
from osr.data.walking import PassedOver
from osr.errors import InputError
from osr.inference import folder as stored
from osr.inference.classifier import OpenSetClassifier
from osr.inference.judgement import Scores
from osr.inference.recalibration import new_thresholds
from osr.inference.streams import Source
from osr.inference.trained_on import TrainedOn
from osr.metrics.threshold_files import PREDICTION, load_thresholds, save_thresholds
from osr.params import load_params
from osr.settings.sentences import listed
from osr.stored.arrays import write_arrays
from osr.stored.files import file_digest
from osr.stored.makers import EXPORTED, made_by
from pipeline.serving.card import Renewed, renewed_card, told_theta
from pipeline.serving.export import GRAPHS, software, write_graphs
from pipeline.serving.known_images import KnownImages, find_known, taken_for_others
from pipeline.serving.load import load_folder
from pipeline.serving.network import network_over
from pipeline.serving.sources import Sources
from pipeline.workspace.shipped import shipped
from pipeline.workspace.stages import PARAMS

FEWEST_ACCEPTED = 0.5  # of known images by the threshold so far; below, they may be others

FEWEST_RIGHT = 0.5  # of images in class folders; below, these may be called wrongly

logger = logging.getLogger("osr.recalibrate")


class Measured(NamedTuple):
    """Scores (n,) by detector, and logits (n, K)."""

    scores: dict[str, Scores]
    logits: NDArray[np.float32]


def measure(
    classifier: OpenSetClassifier, files: Sequence[Path], *, num_workers: int | None = None
) -> Measured:
    """What every detector and the network say of some images.

    Args:
        classifier: measures.
        files: n paths.
        num_workers: processes that read ahead; None chooses.

    Raises:
        InputError: a file cannot be read.
    """
    scores, logits = {name: list[Scores]() for name in classifier.detectors}, list[NDArray[np.float32]]()
    sources = Sources((Source(str(file)) for file in files), len(files), PassedOver())
    for batch, outputs in network_over(classifier, sources, title="recalibrate", num_workers=num_workers):
        if bad := next((read.reason for read in batch if read.pixels is None), None):
            raise InputError(f"{bad} Remove it, or put a whole one there.")
        if outputs is not None:
            logits.append(outputs.logits)
            for name, (detector, _) in classifier.parts.detectors.items():
                scores[name].append(detector.score(outputs))
    return Measured({name: np.concatenate(parts) for name, parts in scores.items()}, np.concatenate(logits))


def new_calibration(
    earlier: CalibrationFit, known: KnownImages, logits: NDArray[np.float32], class_names: Sequence[str]
) -> tuple[CalibrationFit | None, str]:
    """The calibration of the probabilities by the earlier one's method; or None, and why it is left as it is.

    Its folds are those of the params.yaml that comes with osr.
    """
    if known.labels is None:
        return None, "the images have no labels"
    if earlier.asked == "none":
        return None, "none was asked for"
    counts = np.bincount(known.labels, minlength=len(class_names))
    if not counts.all():
        return None, f"there is no image of {class_names[int(counts.argmin())]}"
    settings = load_params(shipped(PARAMS.name)).calibrate
    fit = fit_calibration(
        logits,
        known.labels,
        method=earlier.asked,
        folds=settings.folds,
        groups=known.groups,
    )
    return (fit, "") if fit.not_used is None else (None, fit.not_used)


def run(options: argparse.Namespace) -> int:
    """Write the new version, whole or not at all.

    Raises:
        InputError: the new folder exists or cannot be written, the classifier or an image cannot be read, or
            there are too few images for what is promised.
    """
    source, out = options.folder, options.out
    stored.refuse_existing(out)
    classifier = load_folder(source, allow_code=options.allow_code)
    if classifier.groups is not None and options.group_pattern is None:
        raise InputError(
            f"{source} counts images of a group as one: say with --group-pattern which new ones go together."
        )
    known = find_known(
        options.images,
        classifier,
        trained_on=_trained_on(source, classifier),
        group_pattern=options.group_pattern,
    )
    measured = measure(classifier, known.files, num_workers=options.workers)
    earlier = {name: fit for name, (_, fit) in classifier.parts.detectors.items()}
    predictions = measured.logits.argmax(axis=1)
    thresholds = new_thresholds(
        earlier,
        measured.scores,
        known.groups,
        predictions=predictions,
        class_names=classifier.class_names,
        rule=options.rule,
        accept=options.accept,
    )
    held = load_calibration(source / stored.CALIBRATION)
    fit, why_not = new_calibration(held.fit, known, measured.logits, classifier.class_names)
    renewed = Renewed(
        source=stored.Recalibration(
            version=file_digest(source / stored.MANIFEST),
            images=options.images.resolve().name,
            num_images=len(known.files),
            num_groups=None if known.groups is None else len(np.unique(known.groups)),
            digest=known.digest,
            calibrated=fit is not None,
        ),
        folder=source.resolve().name,
        by_class=_by_class(known, classifier.class_names),
        accuracy=_accuracy(known, measured),
        calibration="made anew from these images" if fit else f"left as it was: {why_not}",
        thresholds={
            name: (before, float(np.mean(measured.scores[name] <= before.at(predictions))), thresholds[name])
            for name, before in earlier.items()
        },
    )
    try:
        _write(source, out, classifier, known.groups, measured, renewed, fit)
    except OSError as error:
        raise InputError(f"{out} could not be written: {error.strerror or error}.") from error
    _warn(renewed, classifier.detector, taken_for_others(known, predictions, classifier.class_names))
    sys.stdout.write(_told(out, renewed, classifier.detector))
    return 0


def _trained_on(source: Path, classifier: OpenSetClassifier) -> TrainedOn:
    """What the network was trained on; nothing where an earlier version wrote the folder, which is told."""
    file = source / stored.TRAINED_ON
    if not file.is_file():
        logger.warning("%s is of an earlier version: nothing says which images it was trained on.", source)
        return TrainedOn(np.empty(0, np.uint64), None)
    with made_by(EXPORTED):
        return TrainedOn.load(file, classifier.parts.model.origin)


def _warn(renewed: Renewed, detector: str, others: Sequence[str]) -> None:
    """Say where the images may not be what they are taken for; `others` as of `taken_for_others`."""
    before = renewed.thresholds[detector][1]
    if before < FEWEST_ACCEPTED:
        logger.warning(
            "only %.1f%% of the images were accepted before: if there are unknown ones among them, the new "
            "threshold lets such pass.",
            100 * before,
        )
    wrong = "where folders have wrong names or hold other things, what is made from them is wrong"
    if others:
        logger.warning("the network takes images of these folders for others: %s: %s.", listed(others), wrong)
    elif renewed.accuracy is not None and renewed.accuracy < FEWEST_RIGHT:
        logger.warning(
            "only %.1f%% of the images are of the class that their folder is called, judging by the network: "
            "%s.",
            100 * renewed.accuracy,
            wrong,
        )


def _by_class(known: KnownImages, class_names: Sequence[str]) -> dict[str, int] | None:
    if known.labels is None:
        return None
    counts = Counter(known.labels.tolist())
    return {name: counts[number] for number, name in enumerate(class_names)}


def _accuracy(known: KnownImages, measured: Measured) -> float | None:
    return None if known.labels is None else float(np.mean(measured.logits.argmax(axis=1) == known.labels))


def _write(
    source: Path,
    out: Path,
    classifier: OpenSetClassifier,
    groups: NDArray[np.int64] | None,
    measured: Measured,
    renewed: Renewed,
    fit: CalibrationFit | None,
) -> None:
    """Make the files that are new, and put them with the others into the new folder."""
    manifest, earlier = stored.read_manifest(source), classifier.parts.thresholds
    calibration = source / stored.CALIBRATION
    with tempfile.TemporaryDirectory() as folder:
        new = {name: Path(folder) / name for name in (stored.THRESHOLDS, stored.SCORES)}
        fits = {name: now for name, (_, _, now) in renewed.thresholds.items()}
        digest = save_thresholds(new[stored.THRESHOLDS], fits, earlier.detectors, earlier.made_from)
        made_from = classifier.parts.model.origin.model_copy(update={"thresholds": digest})
        arrays: dict[str, NDArray[Any]] = measured.scores | ({} if groups is None else {"group": groups})
        if any(now.per_class for now in fits.values()):
            arrays[PREDICTION] = measured.logits.argmax(axis=1)
        write_arrays(new[stored.SCORES], "validation scores", {}, made_from, arrays)
        if fit is not None:
            origin = load_calibration(calibration).made_from
            calibration = new[stored.CALIBRATION] = Path(folder) / stored.CALIBRATION
            save_calibration(calibration, fit, origin)
        held = load_calibration(calibration)
        parts = classifier.parts._replace(
            calibration=held.fit.calibration,
            detectors={name: (found, fits[name]) for name, (found, _) in classifier.parts.detectors.items()},
            thresholds=load_thresholds(new[stored.THRESHOLDS]),
            made_from=made_from.model_copy(update={"calibration": held.digest}),
        )
        graphs = [name for name in GRAPHS if name in manifest.files]  # a threshold is in each
        new |= write_graphs(Path(folder), graphs, parts, manifest.detector, manifest.batch_size)
        stored.write_folder(
            out,
            {name: source / name for name in manifest.files if name != stored.CARD} | new,
            card=renewed_card(renewed, (source / stored.CARD).read_text(encoding="utf-8")),
            detector=manifest.detector,
            detectors=manifest.detectors,
            batch_size=manifest.batch_size,
            versions=software(),
            made_from=parts.made_from,
            recalibrated=renewed.source,
        )


def _told(out: Path, renewed: Renewed, detector: str) -> str:
    before, share, now = renewed.thresholds[detector]
    return (
        f"{out}: thresholds and p-values made anew from {renewed.source.num_images:,} known images.\n"
        f"{detector}: {told_theta(before)} accepted {share:.1%} of them, "
        f"{told_theta(now)} accepts {now.acceptance:.1%} (asked {now.target:.1%}).\n"
        f"Calibration of the probabilities: {renewed.calibration}.\n"
    )
