"""From listed files to a data set: each is opened, odd ones are named, small images are packed."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from osr.data.files import Listing
from osr.data.hashes import content_hash, hash_of_any_size
from osr.data.image_files import LARGEST_PACKED, MAX_PIXELS, Look, quiet_decoders, read_head, read_picture
from osr.data.images import ImageFiles, ImageSet, OddImage
from osr.data.settings import DatasetSettings
from osr.errors import InputError
from osr.progress import Steps, announce

logger = logging.getLogger("osr")

SHOWN = 20
CHUNK = 64
T = TypeVar("T")
R = TypeVar("R")


class BadImageError(InputError):
    """Files that cannot be read; the message names the first of them, `odd` holds all that were noticed."""

    def __init__(self, message: str, odd: Sequence[OddImage]) -> None:
        super().__init__(message)
        self.odd = odd


@dataclass(frozen=True)
class _Read:
    """What one file gave.

    Args:
        content: the pixels of an image that is packed.
        hash: of its pixels.
        converted: see `osr.data.image_files.Picture`.
        bad: why it cannot be read; empty if it can.
    """

    content: bytes = b""
    hash: int = 0
    converted: str = ""
    bad: str = ""


def read_listing(listing: Listing, settings: DatasetSettings) -> ImageSet:
    """Open every file: small images of one size are packed in memory, others stay files.

    Memory stays flat: a packed image goes into a temporary file at once.

    Args:
        listing: what to read.
        settings: `pack_size`, `on_bad_image` and `max_pixels`.

    Raises:
        BadImageError: images are damaged, and `dataset.on_bad_image` is error, or no image is whole.
    """
    names = listing.names.tolist()
    paths = [listing.root / name for name in names]
    looks = _looks(paths, settings.max_pixels)
    seen = {number: found for number, found in enumerate(looks) if isinstance(found, Look)}
    channels = 3 if any(found.is_colour for found in seen.values()) else 1
    size = _pack_size(settings, {found.size for found in seen.values()})
    odd = [
        OddImage(name, found, True)
        for name, found in zip(names, looks, strict=True)
        if isinstance(found, str)
    ]
    kept, hashes = [], []
    with tempfile.TemporaryFile() as packed, quiet_decoders():
        reads = _parallel(
            lambda row: _read(paths[row], channels, size, settings.max_pixels), list(seen), "read images"
        )
        for row, read in zip(seen, reads, strict=True):
            if read.bad or read.converted:
                odd.append(OddImage(names[row], read.bad or read.converted, bool(read.bad)))
            if read.bad:
                continue
            packed.write(read.content)
            kept.append(row)
            hashes.append(read.hash)
        _check(odd, settings, len(paths))
        rows = np.array(kept, dtype=np.int64)
        images: NDArray[np.uint8] | ImageFiles
        if size is None:
            images = ImageFiles(listing.root, listing.names[rows], channels, settings.max_pixels)
        else:
            shape = (len(rows), size[1], size[0], channels)
            images = np.memmap(packed, dtype=np.uint8, mode="r", shape=shape)
    _tell_converted(odd)
    return ImageSet(
        images,
        listing.targets[rows],
        listing.class_names,
        None if listing.parts is None else listing.parts[rows],
        None if listing.groups is None else listing.groups[rows],
        np.array(hashes, dtype=np.uint64),
        tuple(odd),
        listing.passed_over,
    )


def _looks(paths: list[Path], max_pixels: int) -> list[Look | str]:
    """What each file is, or why it cannot be read."""

    def look(path: Path) -> Look | str:
        try:
            return read_head(path, max_pixels=max_pixels)
        except InputError as error:
            return str(error)

    announce("images", len(paths), "files")
    with quiet_decoders():
        return list(_parallel(look, paths, "look at images"))


def _tell_converted(odd: list[OddImage]) -> None:
    """One line per kind of conversion; several depths in one data set change how bright its images look."""
    for kind, count in Counter(image.problem for image in odd if not image.is_bad).most_common():
        logger.info("dataset: %d images converted: %s", count, kind)
    depths = {image.problem.partition(",")[0] for image in odd if "-bit grey" in image.problem}
    if len(depths) > 1:
        logger.warning(
            "dataset: grey images of several depths (%s): each is scaled by its own, so dim ones of the "
            "same camera come out brighter; save them with 8 bits to choose the range yourself.",
            ", ".join(sorted(depths)),
        )


def _check(odd: list[OddImage], settings: DatasetSettings, total: int) -> None:
    bad = [image for image in odd if image.is_bad]
    if len(bad) == total:
        told = f"dataset: none of the {total} images can be read, the first: {bad[0].problem}"
        raise BadImageError(told, odd)
    if not bad or settings.on_bad_image == "skip":
        return
    lines = [image.problem for image in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"… and {len(bad) - SHOWN} more.")
    raise BadImageError(
        f"dataset: {len(bad)} of {total} images cannot be read; mend or remove them, or set "
        "dataset.on_bad_image to skip:\n  " + "\n  ".join(lines),
        odd,
    )


def _pack_size(settings: DatasetSettings, sizes: Set[tuple[int, int]]) -> tuple[int, int] | None:
    """(width, height) of packed images of these sizes; None where they stay files."""
    if isinstance(settings.pack_size, int):
        return settings.pack_size, settings.pack_size
    if settings.pack_size == "none" or len(sizes) != 1 or max(max(sizes)) > LARGEST_PACKED:
        return None
    return next(iter(sizes))


def hashes_of_files(
    paths: Sequence[Path], *, channels: int, size: tuple[int, int] | None
) -> list[int | None]:
    """The hashes of the pixels of images, as `read_listing` gives them; None where one cannot be read.

    Args:
        paths: N files.
        channels: 1 or 3, of every image once it is read.
        size: (width, height) that they are brought to before; None leaves them as they are.
    """
    with quiet_decoders():
        reads = _parallel(lambda path: _read(path, channels, size, MAX_PIXELS), list(paths), "look at images")
        return [None if read.bad else read.hash for read in reads]


def _read(path: Path, channels: int, size: tuple[int, int] | None, max_pixels: int) -> _Read:
    """Pixels and their hash; with a size, resized to it, bilinear and antialiased."""
    needed = None if size is None else max(size)
    try:
        picture = read_picture(path, channels=channels, at_least=needed, max_pixels=max_pixels)
    except InputError as error:
        return _Read(bad=str(error))
    pixels = picture.pixels
    if size is None:
        return _Read(hash=hash_of_any_size(pixels), converted=picture.converted)
    if pixels.shape[1::-1] != size:
        grey_or_colours = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        pixels = np.asarray(grey_or_colours.resize(size, Image.Resampling.BILINEAR))
    content = pixels.tobytes()
    return _Read(content, content_hash(content), picture.converted)


def _parallel(work: Callable[[T], R], items: list[T], title: str) -> Iterator[R]:
    """Results in order, from one thread per core, counted."""
    with ThreadPool(os.cpu_count()) as pool, Steps(title, len(items), "images") as steps:
        for start in range(0, len(items), CHUNK):
            results = pool.map(work, items[start : start + CHUNK])
            steps.step(len(results))
            yield from results
