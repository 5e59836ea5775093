"""The test images that the detector judges most wrongly, to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osr.metrics.class_tables import full_name, source_and_name
from osr.plots.gallery import Tile
from pipeline.images import open_images
from pipeline.report.run_files import RunFiles


@dataclass(frozen=True)
class Pick:
    """A test image and what the detector says of it.

    Args:
        row: of the image in the split.
        score: higher = more unknown.
        predicted: the known class with the largest logit, whatever the score says.
        truth: the name of its class.
        known: whether that class is a known one.
    """

    row: int
    score: float
    predicted: str
    truth: str
    known: bool

    @property
    def lines(self) -> tuple[str, ...]:
        """What stands under the image."""
        return (self.truth, f"as {self.predicted}", f"score {self.score:.4g}".replace("-", "−"))


def accepted_unknowns(run: RunFiles, count: int) -> list[Pick]:
    """Unknown images that are accepted as known, those with the lowest scores first; at most `count`."""
    labels, scores = run.outputs.labels, run.scores[f"score_{run.detector}"]
    chosen = np.flatnonzero((labels < 0) & run.accepted)
    return _picks(run, chosen[np.argsort(scores[chosen], kind="stable")][:count])


def rejected_knowns(run: RunFiles, count: int) -> list[Pick]:
    """Known images that are rejected as unknown, those with the highest scores first; at most `count`."""
    labels, scores = run.outputs.labels, run.scores[f"score_{run.detector}"]
    chosen = np.flatnonzero((labels >= 0) & ~run.accepted)
    return _picks(run, chosen[np.argsort(-scores[chosen], kind="stable")][:count])


def tiles(picks: list[Pick]) -> list[Tile]:
    """The images of some picks with their text."""
    images = open_images()
    return [Tile(np.asarray(images[pick.row]), pick.lines) for pick in picks]


def _picks(run: RunFiles, positions: NDArray[np.int64]) -> list[Pick]:
    """The test images at some positions of the outputs."""
    outputs, split, scores = run.outputs, run.split, run.scores[f"score_{run.detector}"]
    predictions = outputs.predictions
    return [
        Pick(
            row=int(outputs.index[position]),
            score=float(scores[position]),
            predicted=split.known_names[int(predictions[position])],
            truth=full_name(*source_and_name(split, int(split.targets[outputs.index[position]]))),
            known=bool(outputs.labels[position] >= 0),
        )
        for position in positions
    ]
