"""The section `dataset` of params.yaml, and what `train` says of batches and augmentation."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from osr.settings.base import MANY, Count, Pixels, PixelsOrZero, Section, Seed, Weight

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


def _compiled(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is {pattern!r}, which is no regular expression: {error}") from error
    return pattern


GroupPattern = Annotated[str, Field(min_length=1), AfterValidator(_compiled)]


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
    """`ArraysSettings` of a source; what is left out is as in `dataset.arrays`."""

    file: str | None = None
    images: str | None = None
    labels: str | None = None
    test_images: str | None = None
    test_labels: str | None = None
    part: str | None = None
    group: tuple[str, ...] | None = None
    class_names: str | None = None


class SourceCsvSettings(Section):
    """`CsvSettings` of a source; what is left out is as in `dataset.csv`."""

    file: str | None = None
    path: str | None = None
    label: str | None = None
    part: str | None = None
    group: str | None = None


class SourceSettings(Section):
    """A data set beside the main one; what is left out is as in `dataset`, but for groups: none."""

    source: str
    name: DatasetName | OwnFunction
    root: str | None = None
    folder: str | None = None
    group_pattern: GroupPattern | None = None
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
    group_pattern: GroupPattern
    pack_size: Pixels | Literal["auto", "none"]
    on_bad_image: Literal["error", "skip"]
    max_pixels: Count
    unknown_sources: tuple[SourceSettings, ...]
    known_sources: tuple[SourceSettings, ...]

    @model_validator(mode="after")
    def _names_of_sources(self) -> Self:
        for key, sections in (
            ("unknown_sources", self.unknown_sources),
            ("known_sources", self.known_sources),
        ):
            names = [section.source for section in sections]
            for name in names:
                if name == "held_out" or names.count(name) > 1 or not re.fullmatch(r"[A-Za-z0-9_+-]+", name):
                    raise ValueError(
                        f"dataset.{key}: source is {name!r}, but must be a name of letters, digits, _, "
                        "+ and - that no other source has; 'held_out' are the unknown classes of dataset.name"
                    )
        return self

    def of_source(self, section: SourceSettings) -> DatasetSettings:
        """The settings that read another data set."""
        own = section.model_dump(include={"name", "root", "folder"}, exclude_none=True)
        own["group_pattern"] = section.group_pattern or "none"
        arrays = self.arrays.model_copy(update=section.arrays.model_dump(exclude_none=True))
        csv = self.csv.model_copy(update=section.csv.model_dump(exclude_none=True))
        alone: dict[str, Any] = {"unknown_sources": (), "known_sources": ()}
        return self.model_copy(update={**own, "arrays": arrays, "csv": csv, **alone})


class AugmentationSettings(Section):
    """How training images are changed at random; zeros and false switch a part off."""

    shift_pixels: PixelsOrZero
    rotation_degrees: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    shear: Annotated[float, Field(ge=0, lt=1)]
    flip: bool
    min_crop_area: Annotated[float, Field(ge=1e-6, le=1)]
    randaugment_num_ops: Annotated[int, Field(ge=0, le=100)]
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)]
    cutout_pixels: PixelsOrZero
    mixup_alpha: Annotated[float, Field(ge=0, le=1e3)]
    cutmix_alpha: Annotated[float, Field(ge=0, le=1e3)]
    mix_probability: Annotated[float, Field(ge=1e-9, le=1)]
    mix_beside: Weight
    pixmix: bool
    pixmix_rounds: Annotated[int, Field(ge=1, le=100)]
    pixmix_beta: Annotated[float, Field(ge=1e-3, le=1e3)]
    pixmix_severity: Annotated[float, Field(ge=0.1, le=10)]
    pixmix_fractals: Annotated[int, Field(ge=1, le=100_000)]
    pseudo_unknowns: Literal["none", "pixmix"]

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others of their batch, and so are their labels."""
        return max(self.mixup_alpha, self.cutmix_alpha) > 0

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.mix_beside and not self.mixes:
            raise ValueError(
                f"train.augmentation.mix_beside is {self.mix_beside:g}, but must be 0 unless mixup_alpha or "
                "cutmix_alpha is above 0: there are no mixed images to weigh"
            )
        if self.mixes and self.pseudo_unknowns != "none":
            raise ValueError(
                f"train.augmentation.pseudo_unknowns is {self.pseudo_unknowns!r}, but must be 'none' when "
                "mixup_alpha or cutmix_alpha is above 0: what stands for unknowns has no class to mix"
            )
        return self


class BatchSettings(Section):
    """How training images come in batches: a part of the section `train`."""

    seed: Seed
    batch_size: Annotated[int, Field(ge=2, le=MANY)]
    augmentation: AugmentationSettings

    @property
    def views(self) -> int:
        """How often each image stands in its batch, each time augmented anew."""
        return 1

    @property
    def copies(self) -> int:
        """2 where each batch ends in as many images again that were made of its own; else 1."""
        if self.views == 2:
            return 2
        beside = self.augmentation.mix_beside or self.augmentation.pseudo_unknowns != "none"
        return 2 if beside else 1
