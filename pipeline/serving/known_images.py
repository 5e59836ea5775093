"""Images of known classes that a classifier is made anew from: each once, and none that it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from osr.data.files import Listing
from osr.data.grouping import grouped
from osr.data.walking import find_images
from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.trained_on import TrainedOn
from osr.settings.sentences import listed
from osr.stored.files import digest_of, file_digest

FEWEST = 5  # images of a folder that say whether it is called wrongly

logger = logging.getLogger("osr.recalibrate")


class KnownImages(NamedTuple):
    """Images of known classes.

    Args:
        files: n paths.
        labels: (n,) int64 in 0..K-1; None where nothing says them.
        groups: (n,) int64; None where each stands for itself.
        digest: of their names and files.
    """

    files: list[Path]
    labels: NDArray[np.int64] | None
    groups: NDArray[np.int64] | None
    digest: str


def find_known(
    folder: Path, classifier: OpenSetClassifier, *, trained_on: TrainedOn, group_pattern: str | None
) -> KnownImages:
    """The images of a folder: of class folders named as the known classes, or without labels.

    Args:
        folder: where to look.
        classifier: knows the classes, and how many channels images have.
        trained_on: images that are left out.
        group_pattern: as `dataset.group_pattern`.

    Raises:
        InputError: no image, none but those that are left out, or class folders beside images of no known
            class.
    """
    files, passed = find_images([folder])
    if passed.counts:
        logger.warning("%s: %s.", folder, passed.sentence)
    files = _new_ones(folder, files, trained_on, classifier.image_format.channels)
    names = [file.relative_to(folder).as_posix() for file in files]
    labels, groups = _labels(folder, names, classifier.class_names), None
    if group_pattern is not None:
        listing = Listing.make(folder, names, ["known"] * len(names))
        depth = 0 if labels is None else 1
        groups = grouped(listing, group_pattern, class_depth=depth, key="--group-pattern").groups
    digest = digest_of([[name, file_digest(file)] for name, file in zip(names, files, strict=True)])
    return KnownImages(files, labels, groups, digest)


def taken_for_others(
    known: KnownImages, predictions: NDArray[np.int64], class_names: Sequence[str]
) -> list[str]:
    """In words, class folders whose images are more often predicted as one other class than as their own."""
    found = list[str]()
    for label, name in enumerate(class_names if known.labels is not None else ()):
        counts = np.bincount(predictions[known.labels == label], minlength=len(class_names))
        most, total = int(counts.argmax()), int(counts.sum())
        if total >= FEWEST and counts[most] > counts[label]:
            found.append(f"{name} ({counts[most]:,} of {total:,} for {class_names[most]})")
    return found


def _labels(folder: Path, names: Sequence[str], class_names: Sequence[str]) -> NDArray[np.int64] | None:
    """(N,) of the class folders that files stand in; None where none is called like a known class."""
    tops = [name.split("/")[0] if "/" in name else "" for name in names]
    others, known = sorted(set(tops) - set(class_names)), f"Known classes: {listed(class_names)}."
    if len(others) < len(set(tops)):
        if others:
            what = listed([top or "images beside them" for top in others])
            raise InputError(
                f"{folder} has folders of known classes, but also {what}: take these away, or name a folder"
                f" without class folders. {known}"
            )
        number_of = {name: number for number, name in enumerate(class_names)}
        return np.array([number_of[top] for top in tops])
    if "" not in tops:
        logger.warning(
            "%s: none of its folders (%s) is called like a known class; all images are taken for known. %s",
            folder,
            listed(others),
            known,
        )
    return None


def _new_ones(folder: Path, files: Sequence[Path], trained_on: TrainedOn, channels: int) -> list[Path]:
    """Those that the network was not trained on, the first of each where there are copies."""
    hashes = trained_on.hashes_of(files, channels=channels)
    seen, copies, kept, held = list[Path](), list[Path](), list[Path](), set[int]()
    for file, number in zip(files, hashes, strict=True):
        place = seen if trained_on.has(number) else copies if number in held else kept
        place.append(file)
        if number is not None:
            held.add(number)
    if not kept:
        raise InputError(
            f"{folder}: the network was trained on all {len(files):,} images, and is surer of these than of "
            "new ones: give images that it has not seen."
        )
    if seen:
        logger.warning(
            "%s: the network was trained on %d of %d images, such as %s, and is surer of these than of new "
            "ones: they are left out.",
            folder,
            len(seen),
            len(files),
            seen[0],
        )
    if copies:
        logger.warning(
            "%s: %d images are copies of others there, such as %s: each counts once.",
            folder,
            len(copies),
            copies[0],
        )
    return kept
