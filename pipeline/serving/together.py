"""Verdicts that depend on all images: rows wait in a temporary file until the last image was judged."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.predictor import UNKNOWN_NAME
from osr.inference.tables import Q_VALUE, Record
from osr.metrics.false_discovery import FalseDiscovery, is_rejected
from osr.metrics.thresholds import fewest_images
from pipeline.serving.verdict_file import Write

_ROWS = 1000  # that are written at once


def check_level(classifier: OpenSetClassifier, detector: str, level: float) -> None:
    """Refuse a bound that nothing can keep.

    Raises:
        InputError: p-values of groups, or so few validation images that none is ever small enough.
    """
    if classifier.groups is not None:
        raise InputError(
            "--fdr needs p-values of single images, but this classifier counts images of a group as one."
        )
    count, fewest = len(classifier.scores[detector]), fewest_images(1 - level)
    if count < fewest:
        raise InputError(
            f"--fdr {level:g} rejects no image by the scores of {count} validation images: it needs {fewest}."
        )


class Together:
    """Decides on all images at once, so that few of the rejected ones are known.

    Args:
        write: takes the rows in the end.
        level: the expected share (0..1) of known images among the rejected ones, at most.
    """

    def __init__(self, write: Write, level: float) -> None:
        self._write_now, self.level = write, level
        self._tested, self.labels = FalseDiscovery(), Counter[str]()
        self._waiting = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115

    def write(self, records: Sequence[Record]) -> None:
        """Keep rows on disk, and of their p-values how often each came.

        Raises:
            InputError: the disk is full, or the like.
        """
        self._tested.add([row["p_value"] for row in records if row["p_value"] is not None])
        try:
            self._waiting.writelines(json.dumps(row) + "\n" for row in records)
            self._waiting.flush()
        except OSError as error:
            raise InputError(
                f"{tempfile.gettempdir()} cannot hold the rows that wait for --fdr: {error.strerror}."
            ) from error

    def finish(self) -> None:
        """Write all rows, their labels and q-values as the whole list has them."""
        q_values = self._tested.q_values()
        self._waiting.seek(0)
        rows = list[Record]()
        for line in self._waiting:
            rows.append(self._decided(json.loads(line), q_values))
            if len(rows) == _ROWS:
                self._write_now(rows)
                rows.clear()
        self._write_now(rows)

    def close(self) -> None:
        """Let go of the temporary file."""
        with contextlib.suppress(OSError):  # where it could not be written, `write` has said so
            self._waiting.close()

    def _decided(self, row: Record, q_values: dict[float, float]) -> Record:
        if row["p_value"] is not None:
            row[Q_VALUE] = q_values[row["p_value"]]
            row["label"] = UNKNOWN_NAME if is_rejected(row[Q_VALUE], self.level) else row["nearest"]
            self.labels[row["label"]] += 1
        return row


@contextmanager
def together(write: Write, level: float) -> Iterator[Together]:
    """Rows wait until the block ends well, and are written then."""
    waiting = Together(write, level)
    try:
        yield waiting
        waiting.finish()
    finally:
        waiting.close()
