"""What a user's images are: classes, sizes, colours, damaged files, copies, names that look like groups."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from osr.data.datasets import load_images
from osr.data.files import Listing, list_csv, list_folder
from osr.data.image_files import read_head
from osr.data.images import ImageFiles, ImageSet, OddImage
from osr.data.reading import read_listing
from osr.data.settings import DatasetSettings
from osr.splits.leaks import repeated_images

MOST_DECODED = 5000  # images; of more a spread sample is decoded
FEWEST_IN_GROUP = 3  # images of a group on average, for names to look like groups


@dataclass(frozen=True)
class NameGroups:
    """Groups that the names of images look like.

    Args:
        example: what the images of one have in common.
        images: how many that one has.
        number: of groups.
        fewest: groups of the class that has the fewest.
    """

    example: str
    images: int
    number: int
    fewest: int


@dataclass(frozen=True)
class Found:
    """What was found.

    Args:
        counts: images of each class, in the order of the classes.
        sizes: (N, 2) width and height of the images that were opened.
        channels: 1 (all grey) or 3.
        odd: damaged and converted files among those that were decoded.
        decoded: how many were decoded, of all.
        copies: images that are pixel for pixel another one, among these.
        conflicts: images that stand in several classes, among these.
        groups: what names look like; None where they look like nothing.
        has_groups: whether the data set itself says which images belong together.
        has_parts: whether it says which train, validate and test.
        empty: folders of classes without any image.
        deeper: of the classes that hold their images in several folders, and none beside them, these folders.
    """

    counts: dict[str, int]
    sizes: np.ndarray
    channels: int
    odd: Sequence[OddImage]
    decoded: int
    copies: int
    conflicts: int
    groups: NameGroups | None
    has_groups: bool
    has_parts: bool
    empty: Sequence[str] = ()
    deeper: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Images there are."""
        return sum(self.counts.values())

    @property
    def short_side(self) -> int:
        """The median of the smaller side, in pixels."""
        return int(np.median(self.sizes.min(axis=1)))


def look_at(settings: DatasetSettings) -> Found:
    """Look at the data set that the settings name: `folder`, `csv` or `arrays`.

    Raises:
        InputError: it cannot be read at all, or holds no image.
    """
    if settings.name == "arrays":
        data = load_images(settings)
        height, width = data.images.shape[1:3] if not isinstance(data.images, ImageFiles) else (0, 0)
        return _found(
            data, _counts(data.targets, data.class_names), np.array([[width, height]]), len(data.targets)
        )
    listing = list_csv(settings) if settings.name == "csv" else list_folder(settings)
    count = len(listing.names)
    rows = np.unique(np.linspace(0, count - 1, min(MOST_DECODED, count)).astype(int))
    quiet = settings.model_copy(update={"on_bad_image": "skip", "pack_size": "none"})
    data = read_listing(listing.select(rows), quiet)
    sizes = _sizes(listing.root, data)
    names = _names_by_class(listing, settings)
    targets = data.targets if len(rows) == count else listing.targets  # without those that cannot be read
    found = _found(data, _counts(targets, listing.class_names), sizes, len(rows))
    deeper = _deeper(listing.class_names, names) if settings.name == "folder" else {}
    return replace(found, groups=groups_in_names(names), empty=listing.empty, deeper=deeper)


def _deeper(classes: Sequence[str], names: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """The folders of those classes all of whose images lie in several, largest class first."""
    found = {}
    for _, of, own in sorted(zip(map(len, names), classes, names, strict=True), reverse=True):
        folders = sorted({name.partition("/")[0] for name in own}) if all("/" in name for name in own) else []
        if len(folders) > 1:
            found[of] = folders
    return found


def groups_in_names(names: Sequence[Sequence[str]]) -> NameGroups | None:
    """The groups that names look like; None if they look like none.

    A group shares its sub-folders and the name in front of its last number: `00007_00012.png` is of 00007.

    Args:
        names: of each class, relative to its folder.
    """
    per_class = [Counter(_prefix(name) for name in of_class) for of_class in names if of_class]
    grouped = [count for count in per_class if 1 < len(count) <= sum(count.values()) / FEWEST_IN_GROUP]
    if 2 * sum(sum(count.values()) for count in grouped) < sum(map(len, names)):
        return None
    example, images = grouped[0].most_common(1)[0]
    fewest = min(len(count) for count in per_class if sum(count.values()) >= FEWEST_IN_GROUP)
    return NameGroups(example, images, sum(map(len, grouped)), fewest)


def _prefix(name: str) -> str:
    path = Path(name)
    stem = re.sub(r"[\s_.-]*\d+$", "", path.stem)
    return (path.parent / stem).as_posix()


def _names_by_class(listing: Listing, settings: DatasetSettings) -> list[list[str]]:
    """The names below the folder of each class; of a table the whole paths."""
    found: list[list[str]] = [[] for _ in listing.class_names]
    for name, target in zip(listing.names.tolist(), listing.targets.tolist(), strict=True):
        inside = Path(name)
        if settings.name == "folder":
            parts = inside.relative_to(settings.folder).parts
            inside = Path(*parts[parts.index(listing.class_names[target]) + 1 :])
        found[target].append(inside.as_posix())
    return found


def _sizes(root: Path, data: ImageSet) -> np.ndarray:
    """(N, 2) width and height by the heads of the files."""
    names = data.images.names.tolist() if isinstance(data.images, ImageFiles) else []
    sizes = []
    for name in names:
        sizes.append(read_head(root / name).size)
    return np.array(sizes)


def _counts(targets: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    return dict(zip(names, np.bincount(targets, minlength=len(names)).tolist(), strict=True))


def _found(data: ImageSet, counts: dict[str, int], sizes: np.ndarray, decoded: int) -> Found:
    images, hashes = data.images, data.hashes
    return Found(
        counts=counts,
        sizes=sizes,
        channels=images.channels if isinstance(images, ImageFiles) else int(images.shape[-1]),
        odd=data.odd,
        decoded=decoded,
        copies=0 if hashes is None else len(hashes) - len(np.unique(hashes)),
        conflicts=0 if hashes is None else len(repeated_images(hashes, data.targets)),
        groups=None,
        has_groups=data.groups is not None,
        has_parts=data.parts is not None,
    )
