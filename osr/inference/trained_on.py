"""Which images a network was trained on: it is surer of these than of new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from osr.data.reading import hashes_of_files
from osr.settings.base import Section
from osr.splits.leaks import HashArray
from osr.stored.arrays import read_arrays, write_arrays
from osr.stored.files import checked, damaged
from osr.stored.origin import Origin, check_origin

_ARRAY = "hashes"


class _Packed(Section):
    """What the hashes are of.

    Args:
        size: (width, height) that images were brought to before; None where they were left as they are.
    """

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None


@dataclass(frozen=True, eq=False)
class TrainedOn:
    """The images of known classes that a network was trained on.

    Args:
        hashes: (M,) uint64, sorted, each once; of pixels, see `osr.data.hashes`.
        size: (width, height) that images were brought to before; None where they were left as they are.
    """

    hashes: HashArray
    size: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.hashes)

    def save(self, path: Path, made_from: Origin) -> None:
        """Write the hashes, whole or not at all.

        Args:
            path: of a safetensors file.
            made_from: digests of the weights that were trained on them, and of the split.
        """
        content = _Packed(size=self.size).model_dump(mode="json")
        write_arrays(path, "training hashes", content, made_from, {_ARRAY: self.hashes})

    @classmethod
    def load(cls, path: Path, origin: Origin) -> Self:
        """Read what `save` wrote; never runs stored code.

        Args:
            path: of the file.
            origin: of the network.

        Raises:
            InputError: the file is missing, damaged, was changed, or is of other weights.
        """
        stored, arrays = read_arrays(path, "training hashes")
        check_origin(path, stored.made_from, origin, beside=path)
        hashes = arrays.get(_ARRAY)
        if hashes is None or hashes.dtype != np.uint64 or hashes.ndim != 1:
            raise damaged(path, "it holds no hashes")
        return cls(hashes, checked(path, _Packed, stored.content).size)

    def hashes_of(self, files: Sequence[Path], *, channels: int) -> list[int | None]:
        """Of N files what `has` takes; None of one that cannot be read.

        A file that was resized or compressed anew has another hash, one that is called otherwise has not.

        Args:
            files: N paths.
            channels: 1 or 3, of the network.
        """
        return hashes_of_files(files, channels=channels, size=self.size)

    def has(self, number: int | None) -> bool:
        """Whether the image of a hash is among these."""
        if number is None:
            return False
        place = int(np.searchsorted(self.hashes, np.uint64(number)))
        return place < len(self) and int(self.hashes[place]) == number
