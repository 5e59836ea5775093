"""The one reader of image files: of any size and mode to the pixels a network takes, or why not."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from osr.data import jpeg_ends, png_ends
from osr.data.file_bytes import File, FileBytes
from osr.data.grey import eight_bits
from osr.errors import InputError

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".ppm",
    ".pgm", ".pbm",
)  # fmt: skip
MAX_PIXELS = 100_000_000  # of one image, where nobody set `dataset.max_pixels`
MAX_ASPECT = 1000  # a side of an image, times the other: a thinner one is damaged, or no picture
LARGEST_PACKED = 64  # pixels a side of images that `pack_size: auto` packs
REDUCING = 2  # a JPEG is decoded at no less than twice the size that is needed, and shrunk from there
_MODES = {1: "L", 3: "RGB"}
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
_KINDS = {"P": "palette", "PA": "palette", "CMYK": "CMYK"}
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that exchange width and height
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# One limit for all formats and callers is checked in `_opened`.
Image.MAX_IMAGE_PIXELS = None


class Square(Protocol):
    """What large images are brought to before they are judged, see `osr.frame.Frame`."""

    @property
    def short_side(self) -> int:
        """Pixels of the shorter side before the crop."""

    def shrunk(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(size, size, C) uint8 of one image (H, W, C)."""


@dataclass(frozen=True)
class Look:
    """What the first bytes of an image say.

    Args:
        size: (width, height), upright.
        is_colour: whether it has colours.
    """

    size: tuple[int, int]
    is_colour: bool


@dataclass(frozen=True)
class Picture:
    """An image as a network takes it.

    Args:
        pixels: (H, W, C) uint8, upright.
        converted: what was done to it that is not always what was wanted, such as "palette"; often empty.
    """

    pixels: NDArray[np.uint8]
    converted: str


def read_head(path: Path, *, max_pixels: int = MAX_PIXELS) -> Look:
    """Size and colour, without decoding.

    Raises:
        InputError: see `read_picture`.
    """
    with _opened(path, max_pixels) as image:
        width, height = image.size
        is_turned = image.getexif().get(_ORIENTATION) in _TURNED
        return Look((height, width) if is_turned else (width, height), image.mode not in _GREY)


def read_image(
    path: Path, *, channels: int, at_least: int | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """The pixels of `read_picture`."""
    return read_picture(path, channels=channels, at_least=at_least, max_pixels=max_pixels).pixels


def read_picture(
    path: File, *, channels: int, at_least: int | None = None, max_pixels: int = MAX_PIXELS
) -> Picture:
    """One image as (H, W, channels) uint8, upright; transparent pixels are laid on white.

    Args:
        path: any file that Pillow reads, or the bytes of one; of an animation or several pages the first
            picture counts.
        channels: 1 or 3.
        at_least: pixels a side that are needed; a JPEG that has many more is decoded at a half, a quarter or
            an eighth. None decodes all.
        max_pixels: in the file.

    Raises:
        InputError: nothing there, no regular file, no image, a damaged one, one of more pixels than allowed,
            or one whose pixels have no range that could be mapped to 0..255. Whatever a decoder raises is
            this error, with the path.
    """
    with _opened(path, max_pixels) as image:
        converted = _oddities(image)
        draft = None if at_least is None else (REDUCING * at_least, REDUCING * at_least)
        if draft is not None:
            image.draft(None, draft)
        image.load()
        if image.format == "PNG":
            png_ends.check_whole(path, image)
        elif image.format in ("JPEG", "MPO"):
            jpeg_ends.check_whole(path, image, draft)
        _turn_upright(image, path)
        pixels, scaled = eight_bits(image, path)
        if pixels.has_transparency_data:
            pixels = pixels.convert("RGBA")
            pixels = Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels)
        if pixels.mode == "LAB":  # from which Pillow has no way to grey
            pixels = pixels.convert("RGB")
        array = np.asarray(pixels.convert(_MODES[channels]))
    array = array[..., None] if channels == 1 else array
    return Picture(array, ", ".join([*([scaled] if scaled else []), *converted]))


def read_fitted(path: File, frame: Square, *, channels: int, max_pixels: int = MAX_PIXELS) -> Picture:
    """One image no larger than the network needs it, so that many stand in little memory.

    Those of at most `LARGEST_PACKED` pixels a side stay as they are, as they do in training.

    Raises:
        InputError: see `read_picture`.
    """
    picture = read_picture(path, channels=channels, at_least=frame.short_side, max_pixels=max_pixels)
    if max(picture.pixels.shape[:2]) <= LARGEST_PACKED:
        return picture
    return replace(picture, pixels=frame.shrunk(picture.pixels))


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Without Pillow's warnings: what is wrong with a file is an error, and the rest harms no pixel.

    Filters belong to the process: enter it in the thread that starts others.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextmanager
def _opened(path: File, max_pixels: int) -> Iterator[Image.Image]:
    """A file that is an image of an allowed size; every error of a decoder becomes `InputError`."""
    try:
        _check_file(path)
        with Image.open(path if isinstance(path, Path) else path.open()) as image:
            check_sides(str(path), image.width, image.height)
            if (pixels := image.width * image.height) > max_pixels:
                raise InputError(f"{path} has {pixels:,} pixels, above dataset.max_pixels, {max_pixels:,}.")
            yield image
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} is no image that can be read: {_why(path, error)}.") from error


def check_sides(name: str, width: int, height: int) -> None:
    """Refuse what no picture is: without pixels, or a line of them, which fitted would need much memory.

    Raises:
        InputError: a side is 0, or more than `MAX_ASPECT` times the other; the sentence begins with `name`.
    """
    if min(width, height) < 1:
        raise InputError(f"{name} has {width} x {height} pixels, but each side must be at least 1.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InputError(
            f"{name} has {width:,} x {height:,} pixels, but a side must be at most {MAX_ASPECT:,} times the"
            " other."
        )


def _check_file(path: File) -> None:
    """Refuse what is no regular file with content before anybody opens it: a pipe would wait for ever."""
    if isinstance(path, FileBytes):
        if not path.content:
            raise InputError(f"{path} is empty.")
        return
    try:
        status = path.stat()
    except FileNotFoundError:
        hint = "; folders are parted by /, and its name holds \\" if "\\" in str(path) else ""
        raise InputError(f"{path} does not exist{hint}.") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path} is a folder, not an image.")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is a pipe, a socket or a device, not an image.")
    if not status.st_size:
        raise InputError(f"{path} is empty.")


def _why(path: File, error: Exception) -> str:
    """What is wrong with a file, without the path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if not isinstance(error, UnidentifiedImageError):
        return " ".join(str(error).split()).rstrip(".") or type(error).__name__
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:] in _HEIC:
        return "it is HEIC, which Pillow does not decode; save it as JPEG or PNG"
    return "its format is unknown"


def _turn_upright(image: Image.Image, path: File) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:
        if isinstance(error, OSError):  # of the pixels
            raise
        told = f"its EXIF, which may say that it is turned, is damaged ({_why(path, error)})"
        raise InputError(f"{path} is no image that can be read: {told}; save it without.") from error


def _oddities(image: Image.Image) -> list[str]:
    kinds = [_KINDS[image.mode]] if image.mode in _KINDS else []
    # Of 16-bit colours Pillow gives the high bytes only; what it decodes still tells.
    if image.mode in ("RGB", "RGBA") and any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        kinds.append("16-bit colours, their high bytes")
    if image.has_transparency_data:
        kinds.append("transparent")
    if image.format != "MPO" and getattr(
        image, "is_animated", False
    ):  # a phone's MPO has a preview behind it
        kinds.append("first of several pictures")
    return kinds
