"""Command discover: candidate new classes among rejected images, to look at and to train on."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from osr.data.image_files import MAX_PIXELS
from osr.data.walking import PassedOver
from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.discovery import discover
from osr.inference.folder import refuse_existing
from osr.inference.judgement import Decision
from osr.inference.predictor import UNKNOWN_NAME
from osr.inference.streams import Reader, Source
from pipeline.serving.candidates import stability_told, write_candidates
from pipeline.serving.judged_again import JudgedAgain
from pipeline.serving.load import load_folder
from pipeline.serving.network import network_over
from pipeline.serving.rejected import Judged
from pipeline.serving.sources import Sources, open_sources
from pipeline.serving.verdict_reader import read_verdicts

logger = logging.getLogger("osr.discover")

FEWEST = 5  # images of a candidate that somebody would be told of


def run(options: argparse.Namespace) -> int:
    """Judge, cluster, and write, also where no candidate is found; 1 when an image could not be read.

    Raises:
        InputError: nothing to judge, or the folder exists or cannot be written.
    """
    out = options.out
    refuse_existing(out)
    if bool(options.paths) == (options.verdicts is not None):
        raise InputError("Name images to judge, or with --verdicts a file of `osr predict`, and not both.")
    decision = Decision(options.detector, accept=options.accept)
    if options.verdicts is not None and decision != Decision():
        raise InputError("--detector and --accept do not go with --verdicts, whose rows are decided.")
    classifier = load_folder(options.folder, allow_code=options.allow_code)
    classifier.check(decision)
    judged = Judged(classifier.class_names, options.min_images)
    _judge(classifier, decision, judged, options)
    least = options.min_images
    found = discover(judged.rejected, judged.accepted(least), min_images=least)
    nothing = "" if len(found.sizes) else nothing_found(judged, least)
    image_format = classifier.image_format
    reader = Reader(image_format.frame, image_format.channels, MAX_PIXELS)
    try:
        told = write_candidates(out, reader, judged, found, nothing)
    except OSError as error:
        raise InputError(f"{out} could not be written: {error.strerror or error}.") from error
    sys.stdout.write(told)
    return 1 if judged.num_unreadable else 0


def nothing_found(judged: Judged, min_images: int) -> str:
    """What to say where there is no candidate; half of `min_images`, a quarter and so on are tried."""
    count, tried, why = len(judged.names), list[str](), ""
    if not count:
        return "No candidate: no image was rejected."
    if count < min_images:
        told = f"No candidate: the rejected images number {count:,}, and --min-images is {min_images:,}."
    else:
        told = (
            f"No candidate: among the {count:,} rejected images no {min_images:,} look alike enough to be one"
            " class."
        )
        why = "The images may be of many kinds, or too few of each. "
    while (min_images := min_images // 2) >= FEWEST:
        found = discover(judged.rejected, judged.accepted(min_images), min_images=min_images)
        if number := len(found.sizes):
            several = f"{number}, the largest of" if number > 1 else "one of"
            largest = f"{several} {found.sizes[0]:,} images, {stability_told(found.stability[0])}"
            return f"{told}\nWith --min-images {min_images:,} there should be {largest}."
        tried.append(f"{min_images:,}")
    nor = f"With --min-images {' or '.join(tried)} there is none, either. " if tried else ""
    return f"{told}\n{nor}{why}More judged images help."


def _judge(
    classifier: OpenSetClassifier, decision: Decision, judged: Judged, options: argparse.Namespace
) -> None:
    """Judge images, or take a table's word for it.

    Raises:
        InputError: there is none, or none that can be read.
    """
    told, again = dict[str, tuple[bool, float]](), JudgedAgain(classifier)
    if options.verdicts is None:
        given = open_sources(options.paths)
        sources = given._replace(items=_files(given.items))
    else:
        told = _told(options.verdicts, classifier, judged.most)
        sources = Sources(map(Source, told), len(told), PassedOver())
    passes = network_over(
        classifier,
        sources,
        title="discover",
        detector=None if told else decision.detector or classifier.detector,
        num_workers=options.workers,
    )
    for batch, outputs in passes:
        names = [read.name for read in batch if read.pixels is not None]
        for read in batch:
            if read.reason:
                judged.num_unreadable += 1
                logger.warning("%s", read.reason)
        if outputs is None:
            continue
        if told:
            is_rejected = [told[name][0] for name in names]
            again.add(names, [told[name][1] for name in names], outputs)
        else:
            labels = classifier.judge_outputs(outputs, decision).labels
            is_rejected = [label == UNKNOWN_NAME for label in labels]
        judged.add(names, outputs, np.array(is_rejected, dtype=np.bool_))
    if told:
        again.check(options.verdicts)
    if sources.passed.counts:
        logger.warning("%s.", sources.passed.sentence)
    if not judged.names and not judged.num_accepted:
        raise InputError(f"{options.verdicts or ' '.join(options.paths)} holds no image that can be judged.")


def _files(sources: Iterator[Source]) -> Iterator[Source]:
    """The same, as long as they are files that can be copied."""
    for source in sources:
        if source.content is not None:
            raise InputError(f"{source.name} is no file: a candidate's folder holds copies of files.")
        yield source


def _told(file: Path, classifier: OpenSetClassifier, most: int) -> dict[str, tuple[bool, float]]:
    """The files that a table holds verdicts on, whether they are rejected, and their scores.

    Of the accepted ones at most `most`, drawn at random.
    """
    verdicts, rejected = read_verdicts(file, classifier, classifier.detectors), dict[str, bool]()
    scores = dict(zip(verdicts.files, verdicts.scores.tolist(), strict=True))
    for row, name, label in zip(verdicts.rows, verdicts.files, verdicts.labels, strict=True):
        if rejected.setdefault(name, label == UNKNOWN_NAME) != (label == UNKNOWN_NAME):
            raise InputError(
                f"{file}, row {row}, column label: {label!r}, but another row of {name} says else."
            )
    accepted = [name for name, is_rejected in rejected.items() if not is_rejected]
    drawn = set(np.random.default_rng(0).permutation(accepted)[:most].tolist())
    return {
        name: (is_rejected, scores[name])
        for name, is_rejected in rejected.items()
        if is_rejected or name in drawn
    }
