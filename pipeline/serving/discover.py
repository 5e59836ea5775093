"""Command discover: candidate new classes among rejected images, to look at and to train on."""

from __future__ import annotations

import argparse
import csv
import io
import logging
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from osr.data.contact_sheet import grid_sheet
from osr.data.image_files import MAX_PIXELS, SUFFIXES
from osr.data.walking import PassedOver
from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.discovery import Candidates, discover
from osr.inference.folder import refuse_existing
from osr.inference.judgement import Decision
from osr.inference.predictor import UNKNOWN_NAME
from osr.inference.streams import Reader, Source
from osr.outputs import FloatArray, Outputs
from osr.plots.thumbnails import inline
from osr.stored.files import written_whole
from pipeline.serving.load import load_folder
from pipeline.serving.network import network_over
from pipeline.serving.sources import Sources, open_sources
from pipeline.serving.verdict_reader import read_verdicts

logger = logging.getLogger("osr.discover")

PER_CLASS = 2  # times --min-images accepted images take part for each known class, on average
SHOWN = 60  # images of a candidate on its sheet, those deepest in it first
CLASSES, TABLE, PAGE = "classes", "rejected.csv", "index.html"
TEMPLATE = Path(__file__).with_name("discover.html.jinja")
STABLE, DOUBTFUL = 0.75, 0.6  # Hennig 2007


class Judged:
    """What was rejected, and a sample of what was accepted.

    Args:
        class_names: K names.
        most: accepted images in the sample.
    """

    def __init__(self, class_names: Sequence[str], most: int) -> None:
        self.class_names, self.most = class_names, most
        self.names, self.nearest = list[str](), list[str]()
        self._features, self._sample = list[FloatArray](), list[FloatArray]()
        self._random = np.random.default_rng(0)
        self.num_accepted = self.num_unreadable = 0

    def add(self, names: Sequence[str], outputs: Outputs, is_rejected: NDArray[np.bool_]) -> None:
        """Note images, what the network says of them, and which of them are rejected."""
        rows = np.flatnonzero(is_rejected).tolist()
        self.names += [names[row] for row in rows]
        self.nearest += [self.class_names[outputs.predictions[row]] for row in rows]
        self._features.append(outputs.features[rows])
        for row in np.flatnonzero(~is_rejected):  # in the end each is in the sample at the same chance
            place = self.num_accepted
            if place >= self.most:
                place = int(self._random.integers(place + 1))
            if place < self.most:
                self._sample[place : place + 1] = [outputs.features[row].copy()]  # not the whole batch
            self.num_accepted += 1

    @property
    def rejected(self) -> FloatArray:
        """(N, D) float32, features of the rejected images."""
        return np.concatenate(self._features) if self._features else np.empty((0, 1), np.float32)

    @property
    def accepted(self) -> FloatArray | None:
        """(M, D) float32, features of a sample of the accepted images."""
        return np.stack(self._sample) if self._sample else None


class Shown(NamedTuple):
    """One candidate of the page."""

    name: str
    size: int
    stability: float
    word: str
    nearest: str
    sheet: str


def word_for(stability: float) -> str:
    """What a stability means."""
    return "stable" if stability >= STABLE else "doubtful" if stability >= DOUBTFUL else "unstable"


def run(options: argparse.Namespace) -> int:
    """Judge, cluster, and write; the status is 1 when an image could not be read.

    Raises:
        InputError: nothing to judge, no candidate among what is rejected, or the folder exists or cannot be
            written.
    """
    out = options.out
    refuse_existing(out)
    if bool(options.paths) == (options.verdicts is not None):
        raise InputError("Name images to judge, or with --verdicts a file of `osr predict`, and not both.")
    classifier = load_folder(options.folder, allow_code=options.allow_code)
    decision = Decision(options.detector, accept=options.accept)
    classifier.check(decision)
    if options.verdicts is not None and decision != Decision():
        raise InputError("--detector and --accept do not go with --verdicts, whose rows are decided.")
    most = PER_CLASS * options.min_images * len(classifier.class_names)
    judged = _judged(classifier, decision, Judged(classifier.class_names, most), options)
    found = discover(judged.rejected, judged.accepted, min_images=options.min_images)
    if not len(found.sizes):
        raise InputError(
            f"No {options.min_images} of {len(judged.names):,} rejected images lie together: judge more"
            " images, or lower --min-images."
        )
    try:
        told = _write(out, classifier, judged, found)
    except OSError as error:
        raise InputError(f"{out} could not be written: {error.strerror or error}.") from error
    sys.stdout.write(told)
    return 1 if judged.num_unreadable else 0


def _judged(
    classifier: OpenSetClassifier, decision: Decision, judged: Judged, options: argparse.Namespace
) -> Judged:
    """Judge images, or take a table's word for it."""
    told = dict[str, bool]()
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
        detector=decision.detector or classifier.detector,
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
            is_rejected = [told[name] for name in names]
        else:
            labels = classifier.judge_outputs(outputs, decision).labels
            is_rejected = [label == UNKNOWN_NAME for label in labels]
        judged.add(names, outputs, np.array(is_rejected, dtype=np.bool_))
    if sources.passed.counts:
        logger.warning("%s.", sources.passed.sentence)
    return judged


def _files(sources: Iterator[Source]) -> Iterator[Source]:
    """The same, as long as they are files that can be copied."""
    for source in sources:
        if source.content is not None:
            raise InputError(f"{source.name} is no file: a candidate's folder holds copies of files.")
        yield source


def _told(file: Path, classifier: OpenSetClassifier, most: int) -> dict[str, bool]:
    """The files that a table holds verdicts on, and whether they are rejected.

    Of the accepted ones at most `most`, drawn at random.
    """
    verdicts, rejected = read_verdicts(file, classifier, classifier.detectors), dict[str, bool]()
    for row, name, label in zip(verdicts.rows, verdicts.files, verdicts.labels, strict=True):
        if rejected.setdefault(name, label == UNKNOWN_NAME) != (label == UNKNOWN_NAME):
            raise InputError(
                f"{file}, row {row}, column label: {label!r}, but another row of {name} says else."
            )
    accepted = [name for name, is_rejected in rejected.items() if not is_rejected]
    drawn = set(np.random.default_rng(0).permutation(accepted)[:most].tolist())
    return {name: is_rejected for name, is_rejected in rejected.items() if is_rejected or name in drawn}


def _write(out: Path, classifier: OpenSetClassifier, judged: Judged, found: Candidates) -> str:
    """Folders, sheets, table and page, whole or not at all; returns what to say."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as aside:
        aside.mkdir()
        image_format, shown = classifier.image_format, list[Shown]()
        reader = Reader(image_format.frame, image_format.channels, MAX_PIXELS)
        for number, (size, stability) in enumerate(zip(found.sizes, found.stability, strict=True)):
            name = f"candidate_{number + 1}"
            rows = np.flatnonzero(found.labels == number)
            rows = rows[np.argsort(-found.membership[rows], kind="stable")]
            _copy([Path(judged.names[row]) for row in rows], aside / CLASSES / name)
            pictures = reader[[Source(judged.names[row]) for row in rows[:SHOWN]]]
            sheet = io.BytesIO()
            grid_sheet([read.pixels for read in pictures if read.pixels is not None]).save(sheet, "PNG")
            (aside / f"{name}.png").write_bytes(sheet.getvalue())
            counts = Counter(judged.nearest[row] for row in rows).most_common(3)
            nearest = ", ".join(f"{count} for {label}" for label, count in counts)
            shown.append(
                Shown(
                    name, int(size), float(stability), word_for(stability), nearest, inline(sheet.getvalue())
                )
            )
        _write_table(aside / TABLE, judged, found)
        left = int(np.count_nonzero(found.labels < 0))
        summary = (
            f"{len(judged.names):,} rejected images: {len(shown)} candidate"
            f"{'s' if len(shown) > 1 else ''} for new classes, and {left:,} images in none"
        )
        (aside / PAGE).write_text(_page(summary, shown), encoding="utf-8")
    lines = [
        f"{each.name}: {each.size:,} images, stability {each.stability:.2f} ({each.word})" for each in shown
    ]
    return "\n".join(
        [f"{summary}.", *lines, f"Look at {out / PAGE}; the folders are in {out / CLASSES}.", ""]
    )


def _copy(files: Sequence[Path], folder: Path) -> None:
    """Copies under names that `osr init` takes for images, each of its own."""
    folder.mkdir(parents=True)
    for file in files:
        ending = file.suffix if file.suffix.lower() in SUFFIXES else ".png"  # readers go by the content
        target, number = folder / f"{file.stem}{ending}", 1
        while target.exists():
            number += 1
            target = folder / f"{file.stem}_{number}{ending}"
        shutil.copyfile(file, target)


def _write_table(path: Path, judged: Judged, found: Candidates) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "candidate", "membership", "nearest"))
        rows = zip(judged.names, found.labels, found.membership, judged.nearest, strict=True)
        for name, label, membership, nearest in rows:
            candidate = f"candidate_{label + 1}" if label >= 0 else ""
            table.writerow((name, candidate, f"{membership:.4f}", nearest))


def _page(summary: str, shown: Sequence[Shown]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(summary=summary, candidates=shown, limit=SHOWN, classes=CLASSES, table=TABLE)
