"""What the earlier stages left, as the figures and the report need it; each file is read once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.metrics.class_tables import unknowns_of
from osr.metrics.groups import Groups, groups_of
from osr.metrics.per_class import Unknowns
from osr.outputs import Outputs
from osr.params import Params
from osr.splits.split import Split
from pipeline.workspace.files import read_json
from pipeline.workspace.stages import ESTIMATE, PER_CLASS, SCORES, SPLIT, STAGES, TEST_OUTPUTS, THRESHOLDS

Array = NDArray[Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class RunFiles:
    """The results of the present run.

    Args:
        params: the whole of params.yaml.
    """

    params: Params

    @property
    def detector(self) -> str:
        """The detector that judges new images."""
        return self.params.plot.detector

    @cached_property
    def split(self) -> Split:
        """The classes and parts."""
        return Split.load(SPLIT)

    @cached_property
    def outputs(self) -> Outputs:
        """Of the test images."""
        return Outputs.load(TEST_OUTPUTS)

    @cached_property
    def unknowns(self) -> Unknowns:
        """Class and unknown set of the unknown test images."""
        return unknowns_of(self.split, self.outputs)

    @cached_property
    def groups(self) -> Groups | None:
        """Of the known and the unknown test images; None where each stands for itself."""
        return Groups.of(groups_of(self.split, self.outputs), self.outputs.labels)

    @property
    def has_unknowns(self) -> bool:
        """Whether unknown images were tested; if not, there is an estimate instead, or a reason for none."""
        return bool(self.split.unknown)

    @property
    def drawn(self) -> str:
        """What the intervals are made from, in words."""
        if self.groups is None:
            return "the test images"
        known, unknown = self.groups.counts
        if not self.has_unknowns:
            return f"whole groups of test images that belong together ({known:,})"
        return (
            f"whole groups of test images that belong together ({known:,} of known, {unknown:,} of unknown)"
        )

    @cached_property
    def scores(self) -> dict[str, Array]:
        """The arrays of scores.npz: index, label, prediction, and score_<detector> of each test image."""
        with np.load(SCORES, allow_pickle=False) as arrays:
            return dict(arrays)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What stage evaluate reports."""
        return read_json(STAGES["evaluate"].metrics)

    @cached_property
    def thresholds(self) -> dict[str, dict[str, Any]]:
        """Threshold and what it was made from, per detector."""
        return read_json(THRESHOLDS)

    @property
    def threshold(self) -> float:
        """Of the detector that judges new images."""
        return float(self.thresholds[self.detector]["value"])

    @cached_property
    def estimate(self) -> Row:
        """The estimates, metric -> detector -> value; empty where there is none."""
        found: Row = self.metrics.get("estimate", {})
        return found

    @cached_property
    def estimate_file(self) -> Row:
        """Classes that were left out, by detector, or the reason why none was; empty with unknown images."""
        return {} if self.has_unknowns else read_json(ESTIMATE)

    @property
    def estimated_classes(self) -> list[Row]:
        """How each known class fared when it was left out, for that detector; the hardest first."""
        rows: list[Row] = self.estimate_file.get("classes", {}).get(self.detector, [])
        return rows

    @property
    def why_no_estimate(self) -> str:
        """Of that detector; empty where it has one."""
        file = self.estimate_file
        return str(file.get("reason") or file.get("left_out", {}).get(self.detector, ""))

    @cached_property
    def known_classes(self) -> list[Row]:
        """The rows of per_class.json on known classes, of that detector."""
        return [row for row in read_json(PER_CLASS)["known"] if row["detector"] == self.detector]

    @cached_property
    def unknown_classes(self) -> list[Row]:
        """The rows of per_class.json on unknown classes, of that detector; the hardest first."""
        return [row for row in read_json(PER_CLASS)["unknown"] if row["detector"] == self.detector]
