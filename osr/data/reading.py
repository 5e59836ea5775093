"""From listed files to a data set: each is opened, odd ones are named, small images are packed."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from osr.data.files import Listing
from osr.data.hashes import content_hash, hash_of_any_size
from osr.data.image_files import read_image, why
from osr.data.images import ImageFiles, ImageSet, OddImage
from osr.data.settings import DatasetSettings
from osr.errors import InputError

LARGEST_PACKED = 64  # pixels a side of images that `pack_size: auto` packs
SHOWN = 20
CHUNK = 64
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
T = TypeVar("T")
R = TypeVar("R")


class BadImageError(InputError):
    """Files that cannot be read; the message names the first of them, `odd` holds all that were noticed."""

    def __init__(self, message: str, odd: Sequence[OddImage]) -> None:
        super().__init__(message)
        self.odd = odd


@dataclass(frozen=True)
class _Look:
    """What the first bytes of a file say.

    Args:
        size: (width, height).
        is_colour: whether it has colours.
        odd: what must be converted, such as "palette"; empty for ordinary images.
        bad: why it cannot be read; empty if it can.
    """

    size: tuple[int, int] = (0, 0)
    is_colour: bool = False
    odd: str = ""
    bad: str = ""


@dataclass(frozen=True)
class _Pixels:
    content: bytes
    number: int
    bad: str = ""


def read_listing(listing: Listing, settings: DatasetSettings) -> ImageSet:
    """Open every file: small images of one size are packed in memory, others stay files.

    Memory stays flat: a packed image goes into a temporary file at once.

    Args:
        listing: what to read.
        settings: `pack_size` and `on_bad_image`.

    Raises:
        BadImageError: images are damaged, and `dataset.on_bad_image` is error, or no image is whole.
    """
    paths = [listing.root / name for name in listing.names.tolist()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `_look` names such a file
        looks = list(_parallel(_look, paths, "look at images"))
    channels = 3 if any(look.is_colour for look in looks if not look.bad) else 1
    size = _pack_size(settings, looks)

    def read(number: int) -> _Pixels:
        return _read(paths[number], channels, size)

    openable = [number for number, look in enumerate(looks) if not look.bad]
    odd = [
        OddImage(str(name), look.bad or look.odd, bool(look.bad))
        for name, look in zip(listing.names, looks, strict=True)
        if look.bad or look.odd
    ]
    kept, hashes = [], []
    with tempfile.TemporaryFile() as packed:
        for row, pixels in zip(openable, _parallel(read, openable, "read images"), strict=True):
            if pixels.bad:
                odd.append(OddImage(str(listing.names[row]), pixels.bad, True))
                continue
            packed.write(pixels.content)
            kept.append(row)
            hashes.append(pixels.number)
        _check(odd, settings, len(paths))
        rows = np.array(kept, dtype=np.int64)
        images: NDArray[np.uint8] | ImageFiles
        if size is None:
            images = ImageFiles(listing.root, listing.names[rows], channels)
        else:
            shape = (len(rows), size[1], size[0], channels)
            images = np.memmap(packed, dtype=np.uint8, mode="r", shape=shape)
    return ImageSet(
        images,
        listing.targets[rows],
        listing.class_names,
        None if listing.parts is None else listing.parts[rows],
        None if listing.groups is None else listing.groups[rows],
        np.array(hashes, dtype=np.uint64),
        tuple(odd),
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


def _pack_size(settings: DatasetSettings, looks: Iterable[_Look]) -> tuple[int, int] | None:
    """(width, height) of packed images; None where they stay files."""
    if isinstance(settings.pack_size, int):
        return settings.pack_size, settings.pack_size
    sizes = {look.size for look in looks if not look.bad}
    if settings.pack_size == "none" or len(sizes) != 1 or max(max(sizes)) > LARGEST_PACKED:
        return None
    return sizes.pop()


def _look(path: Path) -> _Look:
    try:
        with Image.open(path) as image:
            pixels = image.width * image.height
            if Image.MAX_IMAGE_PIXELS and pixels > Image.MAX_IMAGE_PIXELS:
                return _Look(bad=f"{path} has {pixels:,} pixels, above {Image.MAX_IMAGE_PIXELS:,}.")
            return _Look(image.size, image.mode not in _GREY, _oddity(image))
    except _ERRORS as error:
        is_empty = path.is_file() and not path.stat().st_size
        reason = "is empty" if is_empty else f"is no image that can be read: {why(error)}"
        return _Look(bad=f"{path} {reason}.")


def _oddity(image: Image.Image) -> str:
    named = {"P": "palette", "PA": "palette", "CMYK": "CMYK", "F": "floating point"}
    kinds = [named[image.mode]] if image.mode in named else []
    # Of 16-bit colours Pillow shows the high bytes only; what it decodes still tells.
    if image.mode.startswith("I") or any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        kinds.append("16-bit")
    if image.has_transparency_data:
        kinds.append("transparent")
    return ", ".join(kinds)


def _read(path: Path, channels: int, size: tuple[int, int] | None) -> _Pixels:
    """Pixels and their hash; with a size, resized to it, bilinear and antialiased."""
    try:
        pixels = read_image(path, channels=channels)
    except InputError as error:
        return _Pixels(b"", 0, str(error))
    if size is None:
        return _Pixels(b"", hash_of_any_size(pixels))
    if pixels.shape[1::-1] != size:
        picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    content = pixels.tobytes()
    return _Pixels(content, content_hash(content))


def _parallel(work: Callable[[T], R], items: list[T], title: str) -> Iterator[R]:
    """Results in order, from one thread per core, with a progress bar that only a terminal sees."""
    bar = tqdm(total=len(items), desc=title, unit="image", disable=None)
    with ThreadPool(os.cpu_count()) as pool, bar:
        for start in range(0, len(items), CHUNK):
            results = pool.map(work, items[start : start + CHUNK])
            bar.update(len(results))
            yield from results
