"""Images of known classes that a classifier is made anew from: those it was not trained on."""

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
from osr.stored.files import digest_of, file_digest

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
    folder: Path, classifier: OpenSetClassifier, *, trained_on: TrainedOn | None, group_pattern: str | None
) -> KnownImages:
    """The images of a folder: of class folders named as the known classes, or without labels.

    Args:
        folder: where to look.
        classifier: knows the classes, and how many channels images have.
        trained_on: images that are left out; None where nobody knows them.
        group_pattern: as `dataset.group_pattern`.

    Raises:
        InputError: no image, none but those that are left out, or class folders beside images of no known
            class.
    """
    class_names = classifier.class_names
    files, passed = find_images([folder])
    if passed.counts:
        logger.warning("%s: %s.", folder, passed.sentence)
    if trained_on is None:
        logger.warning(
            "The classifier is of an earlier version: which images it was trained on is not known."
        )
    else:
        files = _not_trained_on(folder, files, trained_on, classifier.image_format.channels)
    names = [file.relative_to(folder).as_posix() for file in files]
    tops = [name.split("/")[0] if "/" in name else "" for name in names]
    labels, others = None, sorted(set(tops) - set(class_names))
    if len(others) < len(set(tops)):
        if others:
            what = ", ".join(top or "images beside them" for top in others)
            raise InputError(
                f"{folder} has folders of known classes, but also {what}: take these away, or name a folder"
                f" without class folders. Known classes: {', '.join(class_names)}."
            )
        number_of = {name: number for number, name in enumerate(class_names)}
        labels = np.array([number_of[top] for top in tops])
    elif "" not in tops:
        logger.warning(
            "%s: none of its folders (%s) is called like a known class; all images are taken for known.",
            folder,
            ", ".join(others),
        )
    groups = None
    if group_pattern is not None:
        listing = Listing.make(folder, names, ["known"] * len(names))
        depth = 0 if labels is None else 1
        groups = grouped(listing, group_pattern, class_depth=depth, key="--group-pattern").groups
    digest = digest_of([[name, file_digest(file)] for name, file in zip(names, files, strict=True)])
    return KnownImages(files, labels, groups, digest)


def _not_trained_on(folder: Path, files: Sequence[Path], trained_on: TrainedOn, channels: int) -> list[Path]:
    is_seen = trained_on.among(files, channels=channels)
    if is_seen.all():
        raise InputError(
            f"{folder}: the network was trained on all {len(files):,} images, and is surer of these than of "
            "new ones: give images that it has not seen."
        )
    if is_seen.any():
        logger.warning(
            "%s: the network was trained on %d of %d images, such as %s, and is surer of these than of new "
            "ones: they are left out.",
            folder,
            is_seen.sum(),
            len(files),
            files[int(is_seen.argmax())],
        )
    return [file for file, seen in zip(files, is_seen, strict=True) if not seen]
