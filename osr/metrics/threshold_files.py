"""The thresholds of a run as a file, each with the digest of the detector whose scores it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, field_validator

from osr.errors import InputError
from osr.metrics.thresholds import Threshold
from osr.settings.base import Count, Section, ThresholdRule
from osr.stored.files import checked, read_json, write_json
from osr.stored.origin import Origin, apart, checked_digest

PREDICTION = "prediction"  # beside the scores of validation knowns, where a threshold is per class
Part = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[int, Field(ge=0)]


class ThresholdContent(Section):
    """Of a `Threshold`, and of which detector."""

    value: float
    rule: ThresholdRule
    target: Part
    acceptance: Part
    num_images: Count
    false_acceptance: Part | None
    num_background: Number
    num_groups: Count | None
    per_class: tuple[float, ...] | None = None
    detector: str

    @field_validator("detector")
    @classmethod
    def _digest(cls, value: str) -> str:
        return checked_digest(value)


class StoredThresholds(NamedTuple):
    """Thresholds and the digest of the detector of each, by name; where, and what they were made from."""

    path: Path
    of: dict[str, Threshold]
    detectors: dict[str, str]
    made_from: Origin
    digest: str

    def check_detector(self, path: Path, name: str, digest: str | None) -> Threshold:
        """The threshold of a detector.

        Args:
            path: of the detector's file, for the error.
            name: of the detector.
            digest: of its file.

        Raises:
            InputError: there is none, or it was made from another fit of this detector.
        """
        if name not in self.of:
            there = ", ".join(self.of)
            raise InputError(f"{self.path} has no threshold for {name}; there are: {there}.")
        if self.detectors[name] != digest:
            raise InputError(
                f"{path} is not the {name} that {self.path} was made from ({digest}, not "
                f"{self.detectors[name]}): {apart()}"
            )
        return self.of[name]


def save_thresholds(
    path: Path, thresholds: Mapping[str, Threshold], detectors: Mapping[str, str], made_from: Origin
) -> str:
    """Write JSON, whole or not at all; returns its digest.

    Args:
        path: of the file.
        thresholds: by the name of the detector.
        detectors: the digests of their files.
        made_from: what the detectors were made from.
    """
    content = {name: {**asdict(fit), "detector": detectors[name]} for name, fit in thresholds.items()}
    for entry in content.values():
        if entry["per_class"] is None:
            del entry["per_class"]
    return write_json(path, "thresholds", content, made_from)


def load_thresholds(path: Path) -> StoredThresholds:
    """Read what `save_thresholds` wrote.

    Raises:
        InputError: the file is missing, damaged, was changed, or holds a threshold that is no number.
    """
    stored = read_json(path, "thresholds")
    contents = {
        name: checked(path, ThresholdContent, found, key=name) for name, found in stored.content.items()
    }
    thresholds = {
        name: Threshold(**found.model_dump(exclude={"detector"})) for name, found in contents.items()
    }
    digests = {name: found.detector for name, found in contents.items()}
    return StoredThresholds(path, thresholds, digests, stored.made_from, stored.digest)
