"""Whether a PNG holds all its rows: Pillow leaves those black that a stream that ends early lacks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

from osr.data.file_bytes import File
from osr.errors import InputError

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the colour type
_STEP = 1 << 20  # bytes that are unpacked at once
# Adam7: first column and row of each pass, and the steps between its columns and rows.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def check_whole(path: File, image: Image.Image) -> None:
    """Refuse a PNG whose rows are not all there.

    Args:
        path: of the file.
        image: the same, loaded. Where its last row is not black, all of them came.

    Raises:
        InputError: the file is cut short.
    """
    width, height = image.size
    is_filled = any(image.crop((0, height - 1, width, height)).tobytes())
    if is_filled and not image.info.get("interlace"):
        return
    with path.open("rb") as file:
        chunks = _chunks(file)
        head = next(chunks)[1]
        needed, held = (
            _bytes_needed(head),
            _bytes_held(content for kind, content in chunks if kind == b"IDAT"),
        )
    if held < needed:
        raise InputError(
            f"{path} is cut short: it holds {held:,} bytes of its pixels, but {width} x {height} need"
            f" {needed:,}."
        )


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        yield head[4:], file.read(int.from_bytes(head[:4]))
        file.seek(4, 1)  # the checksum


def _bytes_needed(head: bytes) -> int:
    """Of the unpacked rows, each with the byte that names its filter."""
    width, height = int.from_bytes(head[:4]), int.from_bytes(head[4:8])
    bits, is_interlaced = head[8] * _SAMPLES[head[9]], head[12]
    total = 0
    for left, top, across, down in _PASSES if is_interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _bytes_held(contents: Iterator[bytes]) -> int:
    total, unpacking = 0, zlib.decompressobj()
    for content in contents:
        rest = content
        while rest and not unpacking.eof:
            total += len(unpacking.decompress(rest, _STEP))
            rest = unpacking.unconsumed_tail
    while not unpacking.eof and (more := unpacking.decompress(unpacking.unconsumed_tail, _STEP)):
        total += len(more)
    return total
