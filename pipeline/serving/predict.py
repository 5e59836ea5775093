"""Command predict: judge any number of images, a known class or unknown, in little memory."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from osr.data.image_files import MAX_PIXELS
from osr.devices import pick_device, set_cpu_threads
from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.judgement import Decision, Judgement
from osr.inference.predictor import UNKNOWN_NAME
from osr.inference.streams import Read, Reader, read_ahead
from osr.inference.tables import columns, judge, records
from osr.metrics.false_discovery import fewest_strangest
from osr.params import Params, load_params
from osr.progress import Steps
from pipeline.places import form_of
from pipeline.report.judge import judge_of
from pipeline.serving.gallery import gallery_at
from pipeline.serving.load import held_out_of, load_folder, tell_of_unused_code
from pipeline.serving.network import num_readers
from pipeline.serving.shards import Shard, agree, begin, is_done, refuse_unfit, what_is_judged
from pipeline.serving.sources import Sources, open_sources
from pipeline.serving.together import check_level, together
from pipeline.serving.verdict_file import ENDINGS, writing
from pipeline.workspace.lock import settings_since
from pipeline.workspace.stages import CALIBRATOR, DETECTORS, PARAMS, THRESHOLDS, VAL_SCORES, WEIGHTS

logger = logging.getLogger("osr.predict")


def load_classifier(
    params: Params, detector: str | None = None, *, allow_code: Collection[str] | None = None
) -> OpenSetClassifier:
    """The classifier of the files in the working directory.

    Args:
        params: of the run.
        detector: one of detectors.enabled; None means plot.detector.
        allow_code: each `module:Class` that may be imported besides those of the params.

    Raises:
        InputError: no such detector, or a file is missing, damaged, or of another run than the others.
    """
    name = judge_of(params, detector)
    if since := settings_since():
        logger.warning("%s", since)
    return OpenSetClassifier.from_files(
        weights=WEIGHTS,
        calibration=CALIBRATOR,
        detectors={name: DETECTORS / f"{name}.safetensors"},
        thresholds=THRESHOLDS,
        scores=VAL_SCORES,
        detector=name,
        batch_size=params.extraction.batch_size,
        device=pick_device(params.train.accelerator),
        allow_code=(*params.own_code, *(allow_code or ())),
    )


class Stream:
    """Verdicts of images as they come, and what was noticed on the way.

    Args:
        classifier: judges.
        decision: how.
        max_pixels: of one image, the setting `dataset.max_pixels`.
        num_workers: processes that read ahead; None chooses.
    """

    def __init__(
        self,
        classifier: OpenSetClassifier,
        decision: Decision,
        *,
        max_pixels: int,
        num_workers: int | None = None,
    ) -> None:
        self.classifier, self.decision, self.num_workers = classifier, decision, num_workers
        image_format = classifier.image_format
        self.reader = Reader(image_format.frame, image_format.channels, max_pixels)
        self.labels, self.converted = Counter[str](), Counter[str]()
        self.num_unreadable = 0

    def batches(self, sources: Sources) -> Iterator[tuple[list[Read], Judgement | None]]:
        """What was read, in order, and the verdicts on the readable ones; None where there are none."""
        size = self.classifier.batch_size
        workers = num_readers(self.num_workers, sources.total, size)
        with Steps("predict", sources.total, "images") as steps:
            for batch in read_ahead(sources.items, self.reader, batch_size=size, num_workers=workers):
                found = judge(self.classifier, batch, self.decision)
                self._note(batch, found)
                yield batch, found
                steps.step(len(batch))

    def _note(self, batch: Sequence[Read], found: Judgement | None) -> None:
        self.labels.update(found.labels if found else ())
        self.num_unreadable += sum(read.pixels is None for read in batch)
        self.converted.update(read.converted for read in batch if read.converted)
        for read in batch:
            if read.reason:
                logger.warning("%s", read.reason)

    def summary(self, fdr: float | None = None) -> str:
        """How many of each class, unknown and unreadable; and what was promised.

        Args:
            fdr: of all labels together; None where each image was decided on by itself.
        """
        judged = self.labels.total()
        counts = [f"{name}: {count:,}" for name, count in sorted(self.labels.items()) if name != UNKNOWN_NAME]
        unread = f", {self.num_unreadable:,} unreadable" if self.num_unreadable else ""
        if not judged:
            return f"no image judged{unread}"
        rejected = self.labels[UNKNOWN_NAME]
        told = f"{judged:,} images: {', '.join([*counts, f'{UNKNOWN_NAME}: {rejected:,}'])}{unread}"
        number, held_out = held_out_of(self.classifier, self.decision.detector)
        basis = f"judging by {held_out}; no p-value is below 1/{number + 1:,} ({1 / (number + 1):.2g})"
        if fdr is not None and not rejected:
            fewest = fewest_strangest(judged, number, fdr)
            return (
                f"{told}. --fdr {fdr:g} rejects none: that would take {fewest:,} of the {judged:,} images"
                f" stranger than all {held_out}, or more of them nearly as strange. More images held out"
                " (`osr recalibrate`) or a larger bound help"
            )
        if fdr is not None:
            return f"{told}. Of the rejected ones {fdr:.1%} at most should be known images, {basis}"
        promised = self.classifier.expected_rejection(self.decision)
        told += f"; {rejected / judged:.1%} rejected"
        return f"{told}. Of known images {promised:.1%} should be rejected, {basis}"


def _classifier(options: argparse.Namespace, params: Params | None) -> tuple[OpenSetClassifier, int]:
    """That of the present run, or of the folder --model; and the most pixels that an image may have."""
    if params is None:
        classifier = load_folder(options.model, allow_code=options.allow_code)
        return classifier, MAX_PIXELS
    set_cpu_threads(params.train.cpu_threads)
    classifier = load_classifier(params, options.detector, allow_code=options.allow_code)
    tell_of_unused_code(classifier, options.allow_code)
    return classifier, params.dataset.max_pixels


def run(options: argparse.Namespace) -> int:
    """Judge images; the status is 1 when one could not be read.

    Raises:
        InputError: a path or a file of the run is missing, no image can be read, or the verdicts cannot be
            written.
    """
    refuse_unfit(options)
    options.format = form_of(options.output, options.format, ENDINGS, "csv")
    if options.output is None and options.out is None and options.format == "parquet":
        raise InputError("--format parquet needs --output FILE.")
    if options.fdr is not None and options.gallery is not None:
        raise InputError("--gallery shows images as they are judged, and --fdr decides after the last one.")
    params = load_params(PARAMS) if options.model is None else None
    sources = open_sources(options.paths, column=options.column)
    classifier, max_pixels = _classifier(options, params)
    decision = Decision(options.detector, options.threshold, options.accept, options.p_value)
    classifier.check(decision)
    if options.fdr is not None:
        check_level(classifier, options.detector or classifier.detector, options.fdr)
    stream = Stream(classifier, decision, max_pixels=max_pixels, num_workers=options.workers)
    if options.shard is not None:
        return _write_shard(stream, sources, options)
    _write(stream, sources, options)
    return _told(stream, sources, options.fdr)


def _write_shard(stream: Stream, sources: Sources, options: argparse.Namespace) -> int:
    """The rows of one part, unless they are there already."""
    shard, total, max_pixels = Shard(*options.shard), sources.total, stream.reader.max_pixels
    if total is None:
        raise InputError("--shard needs to know how many images there are: name a folder or a file, not -.")
    whole = what_is_judged(stream.classifier, stream.decision, options, sources, max_pixels=max_pixels)
    agree(options.out, whole)
    options.output = shard.file(options.out, options.format)
    rows = shard.rows(total, stream.classifier.batch_size)
    state = sources.state(rows)
    if is_done(options.output, state):
        logger.info("%s is there already.", options.output)
        return 0
    begin(options.output, state)
    logger.info("images %d to %d of %d", rows.start, rows.stop, total)
    _write(stream, sources.only(rows), options)
    return _told(stream, sources, None) if rows else 0


def _told(stream: Stream, sources: Sources, fdr: float | None) -> int:
    """The exit status, once what was noticed has been said."""
    for kind, count in stream.converted.most_common():
        logger.warning("%d images converted: %s", count, kind)
    if sources.passed.counts:
        logger.warning("%s.", sources.passed.sentence)
    logger.log(logging.INFO if stream.labels else logging.ERROR, "%s", stream.summary(fdr))
    return 0 if stream.labels and not stream.num_unreadable else 1


def _write(stream: Stream, sources: Sources, options: argparse.Namespace) -> None:
    """All rows and the gallery."""
    names, fdr = stream.classifier.class_names, options.fdr
    with (
        writing(options.output, options.format, columns(names, fdr=fdr is not None)) as write,
        gallery_at(options.gallery) as gallery,
    ):
        if fdr is not None:
            with together(write, fdr) as waiting:
                for batch, found in stream.batches(sources):
                    waiting.write(list(records(batch, found, names, fdr=True)))
            stream.labels = waiting.labels
            return
        for batch, found in stream.batches(sources):
            write(list(records(batch, found, names)))
            gallery.add(batch, found)
        gallery.summary = stream.summary()
