"""The sections `dataset` and `split` of params.yaml."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from osr.sections import Count, Section, Seed, Share

DatasetName = Literal[
    "digits",
    "mnist",
    "fashion_mnist",
    "kmnist",
    "emnist_letters",
    "svhn",
    "cifar10",
    "cifar100",
    "cifar10+100",
    "gtsrb",
    "tinyimagenet",
    "textures",
    "arrays",
    "folder",
    "csv",
]
# Whether a mirrored image keeps its class. Digits, letters and traffic signs do not.
FLIP_SAFE: dict[str, bool] = {
    "digits": False,
    "mnist": False,
    "fashion_mnist": True,
    "kmnist": False,
    "emnist_letters": False,
    "svhn": False,
    "cifar10": True,
    "cifar100": True,
    "cifar10+100": True,
    "gtsrb": False,
    "tinyimagenet": True,
    "textures": True,
}
OwnFunction = Annotated[str, Field(pattern=r"^\w+(\.\w+)*:\w+$")]
ProtocolName = Literal[
    "A",
    "A+10",
    "A+50",
    "B",
    "B+10",
    "B+50",
    "seed_8_2",
    "seed_9_1",
    "seed_7_3",
    "seed_5_5",
    "seed_40_3",
    "seed_37_6",
    "seed_34_9",
    "SSB_easy",
    "SSB_medium",
    "SSB_hard",
    "first_k",
    "random",
    "explicit",
]
ClassName = Annotated[str | int, Field(union_mode="left_to_right")]


class ArraysSettings(Section):
    """The user's own .npz, and what its arrays are called; `osr.data.arrays` says what they hold."""

    file: str
    images: str
    labels: str
    test_images: str
    test_labels: str
    part: str
    group: tuple[str, ...]
    class_names: str

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if (self.test_images == "none") != (self.test_labels == "none"):
            raise ValueError(
                f"dataset.arrays.test_images is {self.test_images!r} and dataset.arrays.test_labels is "
                f"{self.test_labels!r}, but must both name an array or both be 'none'"
            )
        return self


class CsvSettings(Section):
    """The user's own CSV, and what its columns are called; `osr.data.files` reads it."""

    file: str
    path: str
    label: str
    part: str
    group: str


class SourceArraysSettings(Section):
    """`ArraysSettings` of an unknown source; what is left out is as in `dataset.arrays`."""

    file: str | None = None
    images: str | None = None
    labels: str | None = None
    test_images: str | None = None
    test_labels: str | None = None
    part: str | None = None
    group: tuple[str, ...] | None = None
    class_names: str | None = None


class SourceCsvSettings(Section):
    """`CsvSettings` of an unknown source; what is left out is as in `dataset.csv`."""

    file: str | None = None
    path: str | None = None
    label: str | None = None
    part: str | None = None
    group: str | None = None


class UnknownSourceSettings(Section):
    """A data set whose images are all unknown; what is left out is as in `dataset`."""

    source: str
    name: DatasetName | OwnFunction
    root: str | None = None
    folder: str | None = None
    arrays: SourceArraysSettings = SourceArraysSettings()
    csv: SourceCsvSettings = SourceCsvSettings()


class DatasetSettings(Section):
    """Which images, and where their files are."""

    name: DatasetName | OwnFunction
    root: str
    download: bool
    flip_safe: bool | Literal["auto"]
    arrays: ArraysSettings
    folder: str
    csv: CsvSettings
    pack_size: Count | Literal["auto", "none"]
    on_bad_image: Literal["error", "skip"]
    unknown_sources: tuple[UnknownSourceSettings, ...]

    @model_validator(mode="after")
    def _names_of_sources(self) -> Self:
        names = [section.source for section in self.unknown_sources]
        for name in names:
            if name == "held_out" or names.count(name) > 1 or not re.fullmatch(r"[A-Za-z0-9_+-]+", name):
                raise ValueError(
                    f"dataset.unknown_sources: source is {name!r}, but must be a name of letters, digits, _, "
                    "+ and - that no other source has; 'held_out' are the unknown classes of dataset.name"
                )
        return self

    def of_source(self, section: UnknownSourceSettings) -> DatasetSettings:
        """The settings that read an unknown source."""
        own = section.model_dump(include={"name", "root", "folder"}, exclude_none=True)
        arrays = self.arrays.model_copy(update=section.arrays.model_dump(exclude_none=True))
        csv = self.csv.model_copy(update=section.csv.model_dump(exclude_none=True))
        return self.model_copy(update={**own, "arrays": arrays, "csv": csv, "unknown_sources": ()})


class SplitSettings(Section):
    """Which classes are known and which images train, validate and test."""

    protocol: ProtocolName
    lists_of: str
    trial: Annotated[int, Field(ge=0)]
    num_known: Annotated[int, Field(ge=0)]
    num_unknown: Annotated[int, Field(ge=0)] | Literal["all"]
    known: tuple[ClassName, ...]
    background: tuple[ClassName, ...]
    unknown: tuple[ClassName, ...]
    val_fraction: Share
    test_fraction: Share
    background_val_fraction: Annotated[float, Field(ge=0, lt=1)]
    duplicates: Literal["report", "drop", "error"]
    seed: Seed

    @model_validator(mode="after")
    def _fractions(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"split.val_fraction is {self.val_fraction} and split.test_fraction is {self.test_fraction}, "
                "but their sum must be below 1, so that images are left to train on"
            )
        return self

    @model_validator(mode="after")
    def _lists(self) -> Self:
        if self.protocol != "explicit":
            lists = {"split.known": self.known, "split.unknown": self.unknown}
            filled = [f"{key} is {list(classes)}" for key, classes in lists.items() if classes]
            if filled:
                raise ValueError(
                    f"{' and '.join(filled)}, but must be [] while split.protocol is {self.protocol!r}; "
                    "explicit takes your lists"
                )
        elif len(self.known) < 2:
            raise ValueError(
                f"split.known is {list(self.known)}, but must hold at least 2 of the classes when "
                "split.protocol is 'explicit'"
            )
        return self

    @model_validator(mode="after")
    def _counts(self) -> Self:
        counted = self.protocol in ("first_k", "random")
        if counted and self.num_known < 2:
            raise ValueError(
                f"split.num_known is {self.num_known}, but must be at least 2 when split.protocol is "
                f"{self.protocol!r}"
            )
        if not counted and (self.num_known, self.num_unknown) != (0, "all"):
            raise ValueError(
                f"split.num_known is {self.num_known} and split.num_unknown is {self.num_unknown}, but must "
                f"be 0 and all while split.protocol is {self.protocol!r}; first_k and random take numbers"
            )
        return self
