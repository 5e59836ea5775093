"""Whether a JPEG holds all its blocks: decoders give as grey those that lie behind an early end marker."""

from __future__ import annotations

import io
import random
import re

from PIL import Image

from osr.data.file_bytes import File
from osr.errors import InputError

_GREY = range(124, 133)  # what a block is that nothing was read of, in every mode, beside others perhaps
_STANDS_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length: TEM, RST0 to RST7, SOI
_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # not a byte 255 of the pixels, and no RST
# Blocks of any picture, for the interval that was cut and for those behind it.
_MORE = b"".join(bytes([*random.Random(0).choices(range(255), k=64), 0xFF, 0xD0 + k]) for k in range(8))


def check_whole(path: File, image: Image.Image, draft: tuple[int, int] | None) -> None:
    """Refuse a JPEG of which the last blocks were never read.

    Its pixels can be as grey as those that a decoder makes up. But a decoder that has all its blocks reads no
    further, so that more of them before the end marker change nothing.

    Args:
        path: of the file.
        image: the same, loaded. Where its last pixel is not grey, its block came.
        draft: the size that it was asked for, if any.

    Raises:
        InputError: the file is cut short.
    """
    width, height = image.size
    if any(value not in _GREY for value in image.crop((width - 1, height - 1, width, height)).tobytes()):
        return
    content = path.read_bytes()
    end = _end_of(content)
    if end is None:
        return
    with Image.open(io.BytesIO(content[:end] + _MORE + content[end:])) as longer:
        longer.draft(None, draft)
        longer.load()
        if longer.tobytes() != image.tobytes():
            raise InputError(
                f"{path} is cut short: its last pixels are not in it, though it has an end marker."
            )


def _end_of(content: bytes) -> int | None:
    """Where the end marker of the first picture stands."""
    place = 2
    while found := _MARKER.search(content, place):
        marker = found[1][0]
        if marker == _END:
            return found.start()
        place = found.end()
        if marker not in _STANDS_ALONE:
            place += int.from_bytes(content[place : place + 2])
    return None
