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
from dataclasses import dataclass, field
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
from osr.inference.judgement import Decision
from osr.inference.predictor import UNKNOWN_NAME
from osr.inference.streams import Reader, Source
from osr.plots.thumbnails import inline
from pipeline.serving.predict import Stream
from pipeline.serving.sources import Sources, open_sources
from pipeline.serving.verdict_file import NOT_VERDICTS, read_verdicts

logger = logging.getLogger("osr.discover")

SHOWN = 60  # images of a candidate on its sheet, those deepest in it first
CLASSES, TABLE, PAGE = "classes", "rejected.csv", "index.html"
TEMPLATE = Path(__file__).with_name("discover.html.jinja")
STABLE, DOUBTFUL = 0.75, 0.6  # Hennig 2007


@dataclass
class Rejected:
    """Images of no known class.

    Args:
        names: N paths.
        nearest: N known classes that the network takes them for.
        features: (N, D) float32, in parts.
        num_judged: of how many.
        num_unreadable: files that could not be read.
    """

    names: list[str] = field(default_factory=list)
    nearest: list[str] = field(default_factory=list)
    features: list[NDArray[np.float32]] = field(default_factory=list)
    num_judged: int = 0
    num_unreadable: int = 0

    def add(
        self, classifier: OpenSetClassifier, names: Sequence[str], images: list[NDArray[np.uint8]]
    ) -> None:
        """Note images and what the network makes of them."""
        if images:
            outputs = classifier.outputs(images)
            self.names += names
            self.nearest += [classifier.class_names[number] for number in outputs.predictions]
            self.features.append(outputs.features)


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
    if out.exists():
        raise InputError(f"{out} exists: choose another name, or remove it.")
    if bool(options.paths) == (options.verdicts is not None):
        raise InputError("Name images to judge, or with --verdicts a file of `osr predict`, and not both.")
    classifier = OpenSetClassifier.load(options.folder, allow_code=options.allow_code)
    decision = Decision(options.detector, accept=options.accept)
    classifier.check(decision)
    if options.verdicts is not None and decision != Decision():
        raise InputError("--detector and --accept do not go with --verdicts, whose rows are decided.")
    rejected = _rejected(classifier, decision, options)
    features = np.concatenate(rejected.features) if rejected.features else np.empty((0, 1), np.float32)
    found = discover(features, min_images=options.min_images)
    if not len(found.sizes):
        raise InputError(
            f"No {options.min_images} of {len(features):,} rejected images lie together: judge more images,"
            " or lower --min-images."
        )
    try:
        told = _write(out, classifier, rejected, found)
    except OSError as error:
        raise InputError(f"{out} could not be written: {error.strerror or error}.") from error
    sys.stdout.write(told)
    return 1 if rejected.num_unreadable else 0


def _rejected(classifier: OpenSetClassifier, decision: Decision, options: argparse.Namespace) -> Rejected:
    rejected = Rejected()
    if options.verdicts is not None:
        names, rejected.num_judged = _named(options.verdicts)
        sources = Sources(map(Source, names), len(names), PassedOver())
    else:
        given = open_sources(options.paths)
        sources = given._replace(items=_files(given.items))
    stream = Stream(classifier, decision, max_pixels=MAX_PIXELS, num_workers=options.workers)
    for batch, judgement in stream.batches(sources):
        readable = [read for read in batch if read.pixels is not None]
        labels = judgement.labels if judgement else ()
        is_wanted = [options.verdicts is not None or label == UNKNOWN_NAME for label in labels]
        chosen = [read for read, wanted in zip(readable, is_wanted, strict=True) if wanted]
        rejected.add(
            classifier,
            [read.name for read in chosen],
            [read.pixels for read in chosen if read.pixels is not None],
        )
    rejected.num_judged = rejected.num_judged or stream.labels.total()
    rejected.num_unreadable = stream.num_unreadable
    if sources.passed.counts:
        logger.warning("%s.", sources.passed.sentence)
    return rejected


def _files(sources: Iterator[Source]) -> Iterator[Source]:
    """The same, as long as they are files that can be copied."""
    for source in sources:
        if source.content is not None:
            raise InputError(f"{source.name} is no file: a candidate's folder holds copies of files.")
        yield source


def _named(file: Path) -> tuple[list[str], int]:
    """The files that a table of verdicts calls unknown, and how many were judged."""
    if not file.is_file():
        raise InputError(f"{file} is missing: `osr predict --output {file}` makes such a file.")
    names, judged = list[str](), 0
    try:
        for row in read_verdicts(file, ("file", "label")):
            judged += bool(row["label"])
            if row["label"] == UNKNOWN_NAME:
                names.append(row["file"])
    except NOT_VERDICTS as error:
        raise InputError(f"{file} holds no verdicts of `osr predict`: {error!r:.100}.") from None
    return names, judged


def _write(out: Path, classifier: OpenSetClassifier, rejected: Rejected, found: Candidates) -> str:
    """Folders, sheets, table and page, whole or not at all; returns what to say."""
    aside = out.with_name(f"{out.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    image_format, shown = classifier.image_format, list[Shown]()
    reader = Reader(image_format.frame, image_format.channels, MAX_PIXELS)
    for number, (size, stability) in enumerate(zip(found.sizes, found.stability, strict=True)):
        name = f"candidate_{number + 1}"
        rows = np.flatnonzero(found.labels == number)
        rows = rows[np.argsort(-found.membership[rows], kind="stable")]
        _copy([Path(rejected.names[row]) for row in rows], aside / CLASSES / name)
        pictures = reader[[Source(rejected.names[row]) for row in rows[:SHOWN]]]
        sheet = io.BytesIO()
        grid_sheet([read.pixels for read in pictures if read.pixels is not None]).save(sheet, "PNG")
        (aside / f"{name}.png").write_bytes(sheet.getvalue())
        counts = Counter(rejected.nearest[row] for row in rows).most_common(3)
        nearest = ", ".join(f"{count} {label}" for label, count in counts)
        shown.append(
            Shown(name, int(size), float(stability), word_for(stability), nearest, inline(sheet.getvalue()))
        )
    _write_table(aside / TABLE, rejected, found)
    left = int(np.count_nonzero(found.labels < 0))
    summary = (
        f"{rejected.num_judged:,} images judged, {len(rejected.names):,} rejected: {len(shown)} candidate"
        f"{'s' if len(shown) > 1 else ''} for new classes, and {left:,} images in none"
    )
    (aside / PAGE).write_text(_page(summary, shown), encoding="utf-8")
    aside.replace(out)
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


def _write_table(path: Path, rejected: Rejected, found: Candidates) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "candidate", "membership", "nearest"))
        rows = zip(rejected.names, found.labels, found.membership, rejected.nearest, strict=True)
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
