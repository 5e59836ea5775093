"""What the earlier stages left, as the figures and the report need it; each file is read once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.calibration.calibrators import CalibrationFit
from osr.calibration.files import load_calibration
from osr.metrics.class_tables import unknowns_of
from osr.metrics.groups import Groups, groups_of
from osr.metrics.per_class import Unknowns
from osr.metrics.threshold_files import load_thresholds
from osr.metrics.thresholds import Threshold
from osr.outputs import Outputs
from osr.params import Params
from osr.splits.split import Split
from osr.stored.arrays import read_arrays
from osr.stored.files import read_json
from osr.stored.origin import Kind, Origin
from pipeline.report.judge import AUTO, judge_of, stored_choice
from pipeline.workspace.stages import (
    CALIBRATOR,
    CONFUSION,
    ESTIMATE,
    PER_CLASS,
    SCORES,
    SPLIT,
    STAGES,
    TEST_OUTPUTS,
    THRESHOLDS,
    VAL_SCORES,
)
from pipeline.workspace.stamps import check, present, stage_metrics

Array = NDArray[Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class RunFiles:
    """The results of the present run.

    Args:
        params: the whole of params.yaml.
    """

    params: Params

    @cached_property
    def detector(self) -> str:
        """The detector that judges new images."""
        return judge_of(self.params)

    @cached_property
    def choice(self) -> str:
        """How that detector was chosen, in words; empty where the settings name it."""
        return str(stored_choice()["in_words"]) if self.params.plot.detector == AUTO else ""

    @cached_property
    def split(self) -> Split:
        """The classes and parts."""
        return Split.load(SPLIT)

    @cached_property
    def at_hand(self) -> Origin:
        """The digests of split, weights, calibration and thresholds."""
        return present(*STAGES["evaluate"].made_from)

    @cached_property
    def outputs(self) -> Outputs:
        """Of the test images."""
        found = Outputs.load(TEST_OUTPUTS)
        check(TEST_OUTPUTS, found.made_from, self.at_hand.only("split", "weights"))
        return found

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
        """The arrays of the test scores: index, label, prediction, score_<detector>, … of each test image."""
        header, arrays = read_arrays(SCORES, "test scores")
        check(SCORES, header.made_from, self.at_hand)
        return arrays

    @cached_property
    def val_scores(self) -> dict[str, Array]:
        """The scores of the validation knowns, by detector."""
        header, arrays = read_arrays(VAL_SCORES, "validation scores")
        check(VAL_SCORES, header.made_from, self.at_hand.only("split", "weights", "thresholds"))
        return arrays

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What stage evaluate reports."""
        return stage_metrics("evaluate")

    @cached_property
    def trained(self) -> dict[str, Any]:
        """What stage train reports."""
        return stage_metrics("train")

    @cached_property
    def calibration(self) -> CalibrationFit:
        """The calibration and how it was fitted."""
        found = load_calibration(CALIBRATOR)
        check(CALIBRATOR, found.made_from, self.at_hand.only("split", "weights"))
        return found.fit

    @cached_property
    def thresholds(self) -> dict[str, Threshold]:
        """Threshold and what it was made from, per detector."""
        found = load_thresholds(THRESHOLDS)
        check(THRESHOLDS, found.made_from, self.at_hand.only("split", "weights"))
        return found.of

    @cached_property
    def confusions(self) -> dict[str, Any]:
        """Per detector (K, K + 1) counts: true known class by decision, unknown last."""
        return self._evaluated(CONFUSION, "confusion")

    def threshold_in_words(self, digits: int = 4) -> str:
        """Of the detector that judges new images: a number, or that there is one for each class."""
        fit = self.thresholds[self.detector]
        return f"{fit.value:.{digits}g}" if fit.per_class is None else "one per class"

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """(N,), which test images that detector accepts as known."""
        theta = self.thresholds[self.detector].at(self.outputs.predictions)
        return np.asarray(self.scores[f"score_{self.detector}"] <= theta)

    def scores_and_threshold(self, name: str) -> tuple[Array, float]:
        """The test scores (N,) of a detector and its threshold; of one per class how far above it, and 0."""
        fit, scores = self.thresholds[name], self.scores[f"score_{name}"]
        if fit.per_class is None:
            return scores, fit.value
        return scores - fit.at(self.outputs.predictions), 0.0

    def ends_of_acceptance(self, name: str) -> tuple[float, float]:
        """The interval of the share of test knowns that the threshold of a detector accepts."""
        low, high = (float(self.metrics[f"known_acceptance_{end}"][name]) for end in ("low", "high"))
        return low, high

    def asked_and_got(self, name: str) -> str:
        """What the threshold of a detector was made to accept, and what it accepts of the test knowns."""
        low, high = self.ends_of_acceptance(name)
        share = self.metrics["known_acceptance"][name]
        got = f"accepts {share:.1%} [{low:.1%}, {high:.1%}] of the test knowns"
        asked = self.asked(name)
        return got if asked is None else f"{got}, made to accept {' of '.join(asked)} for validation"

    def asked(self, name: str) -> tuple[str, str] | None:
        """The share that a threshold is to accept, and the validation knowns that it was made from.

        None where background images set it.
        """
        fit = self.thresholds[name]
        if fit.rule == "background":
            return None
        made_from = f"{fit.num_images:,} images"
        if fit.num_groups is not None:
            made_from += f" in {fit.num_groups:,} groups"
        return f"{'' if fit.rule == 'acceptance' else 'at least '}{100 * fit.target:g}%", made_from

    @property
    def shifts(self) -> list[Row]:
        """Known images under each shift, for that detector: corruptions by severity, then known sources."""
        found, ends = [], ("", "_low", "_high")
        for group in ("corruptions", "sources"):
            for name, numbers in self.metrics.get("shifts", {}).get(group, {}).items():
                kind, _, severity = name.rpartition("_") if group == "corruptions" else (name, "", "0")
                row = {
                    "kind": kind,
                    "severity": int(severity),
                    "accuracy": tuple(numbers[f"accuracy{end}"] for end in ends),
                    "accepted": tuple(numbers[f"known_acceptance{end}"][self.detector] for end in ends),
                    "auroc": numbers["auroc"][self.detector] if self.has_unknowns else None,
                }
                found.append(row)
        return sorted(found, key=lambda row: (row["severity"] == 0, row["kind"], row["severity"]))

    @property
    def unknown_accepted(self) -> dict[str, float]:
        """The share of each unknown set that that detector accepts."""
        accepted = self.accepted[self.outputs.labels < 0]
        return {
            source: float(np.mean(accepted[self.unknowns.of_source(source)]))
            for source in self.unknowns.sources
        }

    @cached_property
    def estimate(self) -> Row:
        """The estimates, metric -> detector -> value; empty where there is none."""
        found: Row = self.metrics.get("estimate", {})
        return found

    @property
    def has_estimate(self) -> bool:
        """Whether there is an estimate of any detector."""
        return bool(self.estimate.get("auroc"))

    @cached_property
    def estimate_file(self) -> Row:
        """Classes that were left out, by detector, or the reason why none was; empty with unknown images."""
        return {} if self.has_unknowns else self._evaluated(ESTIMATE, "estimate")

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
        return [row for row in self._class_tables["known"] if row["detector"] == self.detector]

    @cached_property
    def unknown_classes(self) -> list[Row]:
        """The rows of per_class.json on unknown classes, of that detector; the hardest first."""
        return [row for row in self._class_tables["unknown"] if row["detector"] == self.detector]

    @cached_property
    def _class_tables(self) -> dict[str, list[Row]]:
        return self._evaluated(PER_CLASS, "class tables")

    def _evaluated(self, path: Path, kind: Kind) -> dict[str, Any]:
        stored = read_json(path, kind)
        check(path, stored.made_from, self.at_hand)
        return stored.content
