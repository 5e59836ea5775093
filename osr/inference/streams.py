"""Images read ahead: worker processes decode the next batches while one is judged; order is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from osr.data.ahead import ahead
from osr.data.file_images import read_fitted
from osr.data.image_files import quiet_decoders
from osr.errors import InputError
from osr.frame import Frame
from osr.inference.inputs import read_bytes


class Source(NamedTuple):
    """Where an image is: the path `name`, or `content`, bytes of a file; or why there is none, `reason`."""

    name: str
    content: bytes | None = None
    reason: str = ""


def source_of(value: Any, row: str, folder: Path = Path()) -> Source:
    """Where the image is that a cell of a table stands for.

    Args:
        value: a path, the bytes of a file, or both, `path` and `bytes`, as on Hugging Face.
        row: what the cell is called; so are bytes.
        folder: that paths may be relative to, where they are not to the working directory.
    """
    if isinstance(value, dict):
        name, value = value.get("path"), value.get("bytes")
        if value is None:
            value = name
        elif name:
            row = f"{row}/{name}"
    if isinstance(value, str):
        beside = folder / value
        return Source(str(beside) if not Path(value).exists() and beside.exists() else value)
    if isinstance(value, bytes):
        return Source(row, value)
    return Source(row, reason=f"{row} must hold a path or the bytes of a file, not {value!r:.40}.")


class Read(NamedTuple):
    """An image that was read: (H, W, C) uint8, and what was done to it; or the reason why there are none."""

    name: str
    pixels: NDArray[np.uint8] | None
    converted: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Reader:
    """Reads images for a network.

    Args:
        frame: of the network; large images are brought to it one by one.
        channels: 1 or 3.
        max_pixels: of one image.
    """

    frame: Frame
    channels: int
    max_pixels: int

    @quiet_decoders()
    def __getitem__(self, sources: Sequence[Source]) -> list[Read]:
        """One for each source, in order."""
        return [self._read(source) for source in sources]

    def _read(self, source: Source) -> Read:
        name, content, reason = source
        if reason:
            return Read(name, None, reason=reason)
        options: dict[str, Any] = {"channels": self.channels, "max_pixels": self.max_pixels}
        try:
            if content is None:
                picture = read_fitted(Path(name), self.frame, **options)
            else:
                picture = read_bytes(content, name, self.frame, **options)
        except InputError as error:
            return Read(name, None, reason=str(error))
        return Read(name, picture.pixels, picture.converted)


def read_ahead(
    sources: Iterable[Source], reader: Reader, *, batch_size: int, num_workers: int
) -> Iterator[list[Read]]:
    """Batches of images in the order of the sources, which are taken as they are needed.

    At most two batches a worker stand in memory, however many sources there are.

    Args:
        sources: any number.
        reader: reads them.
        batch_size: images in all batches but the last.
        num_workers: processes that read; 0 reads in this one.
    """
    return ahead(reader.__getitem__, _chunks(sources, batch_size), num_workers=num_workers)


def _chunks(sources: Iterable[Source], size: int) -> Iterator[list[Source]]:
    rest = iter(sources)
    while chunk := list(islice(rest, size)):
        yield chunk
