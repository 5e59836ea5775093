"""The network over any number of files, a batch at a time, for commands that want more than a verdict."""

from __future__ import annotations

import os
from collections.abc import Iterator

from osr.data.image_files import MAX_PIXELS
from osr.inference.classifier import OpenSetClassifier
from osr.inference.streams import Read, Reader, read_ahead
from osr.outputs import Outputs
from osr.progress import Steps
from pipeline.serving.sources import Sources


def network_over(
    classifier: OpenSetClassifier,
    sources: Sources,
    *,
    title: str,
    detector: str | None = None,
    num_workers: int | None = None,
) -> Iterator[tuple[list[Read], Outputs | None]]:
    """What was read, in order, and what the network says of the readable ones; None where there are none.

    Args:
        classifier: whose network.
        sources: of the images.
        title: of the step, where a terminal or a log shows how much of it is done.
        detector: the one that is to score; None means that any may.
        num_workers: processes that read ahead; None chooses.
    """
    size, image_format = classifier.batch_size, classifier.image_format
    reader = Reader(image_format.frame, image_format.channels, MAX_PIXELS)
    workers = num_readers(num_workers, sources.total, size)
    with Steps(title, sources.total, "images") as steps:
        for batch in read_ahead(sources.items, reader, batch_size=size, num_workers=workers):
            images = [read.pixels for read in batch if read.pixels is not None]
            yield batch, classifier.outputs(images, detector=detector) if images else None
            steps.step(len(batch))


def num_readers(asked: int | None, total: int | None, batch_size: int) -> int:
    """How many processes read images: half of the cores, and none for a single batch, unless asked."""
    if asked is not None:
        return asked
    is_small = total is not None and total <= batch_size
    return 0 if is_small else max(1, (os.cpu_count() or 1) // 2)
