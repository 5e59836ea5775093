"""The page of `osr predict --gallery`: images with their verdicts, by score, in one file of HTML."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from osr.inference.judgement import Judgement
from osr.inference.predictor import UNKNOWN_NAME
from osr.inference.streams import Read
from osr.plots.thumbnails import thumbnail
from pipeline.serving.verdict_file import whole_file

SHOWN = 300  # of each kind; a page of more is slow to open
TEMPLATE = Path(__file__).with_name("gallery.html.jinja")


class Shown(NamedTuple):
    """One image of the page: its score, number, what is said of it, and the picture."""

    score: float
    number: int
    name: str
    label: str
    nearest: str
    p_value: float
    picture: str


class Gallery:
    """The rejected images with the highest scores, and the accepted ones with the highest.

    At most `SHOWN` of each stand in memory, however many are judged.
    """

    def __init__(self) -> None:
        self._rejected, self._accepted = list[Shown](), list[Shown]()
        self._num_judged = 0
        self.summary = ""

    def add(self, batch: Sequence[Read], found: Judgement | None) -> None:
        """Note what is worth showing of a batch."""
        pixels = [read.pixels for read in batch if read.pixels is not None]
        if found is None:
            return
        for row, image in enumerate(pixels):
            self._num_judged += 1
            kept = self._rejected if found.labels[row] == UNKNOWN_NAME else self._accepted
            score = float(found.scores[row])
            if len(kept) == SHOWN and score <= kept[0].score:
                continue
            shown = Shown(
                score,
                -self._num_judged,  # of equal scores the earlier image stays
                found.names[row],
                found.labels[row],
                found.class_names[found.predictions[row]],
                float(found.p_values[row]),
                thumbnail(image),
            )
            (heapq.heappush if len(kept) < SHOWN else heapq.heapreplace)(kept, shown)

    def page(self) -> str:
        """The page, most unknown images first."""
        from jinja2 import Environment, StrictUndefined

        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
            summary=self.summary,
            limit=SHOWN,
            kinds={
                "Rejected as unknown": sorted(self._rejected, reverse=True),
                "Accepted as known": sorted(self._accepted, reverse=True),
            },
        )


class _NoGallery(Gallery):
    """Where none was asked for."""

    def add(self, batch: Sequence[Read], found: Judgement | None) -> None:
        """Keep nothing."""


@contextmanager
def gallery_at(path: Path | None) -> Iterator[Gallery]:
    """A gallery that becomes the file at the end; without a path it keeps nothing.

    Raises:
        InputError: the file cannot be written; see `pipeline.serving.verdict_file.whole_file`.
    """
    if path is None:
        yield _NoGallery()
        return
    gallery = Gallery()
    yield gallery
    with whole_file(path) as aside:
        aside.write_text(gallery.page(), encoding="utf-8", errors="backslashreplace")
