"""What one forward pass leaves behind. Labels: 0..K-1 known, -1 unknown, -2 background."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from osr.errors import InputError
from osr.stored.files import damaged, file_digest, read_json, write_json
from osr.stored.origin import Origin

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN = -1
BACKGROUND = -2
DESCRIPTION = "outputs.json"
BLOCK = "logits_block"  # in the description of outputs whose logits are not stored

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class LinearLogits(NDArrayOperatorsMixin):
    """Logits (N, K) float32, `features @ weight.T + bias`, stored nowhere: worked out when they are read.

    Reads like an array; arithmetic makes one of it. The rows are worked out in blocks that are always the
    same, on the CPU, whichever of them are asked for: a logit has the same bits each time, and in an array of
    all.

    Args:
        features: (N, D) float32 or float16.
        weight: (K, D) float32.
        bias: (K,) float32.
        block: rows that are worked out at once.
    """

    dtype, ndim = np.dtype(np.float32), 2

    def __init__(self, features: NDArray[Any], weight: FloatArray, bias: FloatArray, *, block: int) -> None:
        self.features, self.weight, self.bias, self.block = features, weight, bias, block
        self.shape = len(features), len(weight)
        self.size = len(features) * len(weight)
        self._last: tuple[int, FloatArray] | None = None  # those who read in order ask for a block again

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            return np.asarray(self)[key]
        rows = np.arange(len(self))[key]
        if rows.ndim == 0:
            return self[rows[None]][0]
        found, blocks = np.empty((len(rows), self.shape[1]), np.float32), rows // self.block
        for block in np.unique(blocks):
            here = blocks == block
            found[here] = self._block(int(block))[rows[here] - block * self.block]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = np.concatenate([np.empty((0, self.shape[1]), np.float32), *self.blocks()])
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of copies and pickles, which ask before there is anything
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = (np.asarray(each) if isinstance(each, LinearLogits) else each for each in inputs)
        return getattr(ufunc, method)(*arrays, **options)

    def blocks(self) -> Iterator[FloatArray]:
        """All rows in order, some thousands at once."""
        for number in range(-(-len(self) // self.block)):
            yield self._block(number)

    def argmax(self, axis: int) -> IntArray:
        """(N,) int64, the column of the largest logit of each row."""
        if axis not in {1, -1}:
            return np.asarray(np.asarray(self).argmax(axis))
        return np.concatenate([np.empty(0, np.int64), *(block.argmax(1) for block in self.blocks())])

    def _block(self, number: int) -> FloatArray:
        if self._last is None or self._last[0] != number:
            from torch.nn.functional import linear  # takes seconds to load, and not every reader needs it

            rows = _tensor(self.features[number * self.block : (number + 1) * self.block])
            self._last = number, linear(rows, *self._head).numpy()
        return self._last[1]

    @cached_property
    def _head(self) -> tuple[Tensor, Tensor]:
        return _tensor(self.weight), _tensor(self.bias)


def _tensor(array: NDArray[Any]) -> Tensor:
    """A float32 copy where torch places tensors: the last bits of a product depend on that."""
    import torch

    copied = torch.empty(array.shape)
    copied.numpy()[...] = array
    return copied


@dataclass(frozen=True)
class Outputs:
    """Logits and features of N images, with the linear head that joins them, all of the K known classes.

    Args:
        logits: (N, K) float32, `features @ weight.T + bias`; `LinearLogits` where they are not stored.
        features: (N, D) float32 or float16, the input of the head.
        labels: (N,) int64 in 0..K-1, -1 unknown, -2 background.
        index: (N,) int64, row of each image in the split.
        weight: (K, D) float32 of the head.
        bias: (K,) float32 of the head; zeros for a head without bias.
        extra_logits: (N, E) float32 of extra classes that stand for *not known*; none if not given.
        odin: (N, 1) float64, the score of `osr.detectors.odin`; (N, 0) where it was not asked for.
        rotation: (N, 1) float64, what `osr.detectors.rotpred` reads; (N, 0) where it was not asked for.
        made_from: digests of the weights that gave them and of the split; of neither where nobody knows.

    Raises:
        InputError: shapes disagree, a label is outside -2..K-1, or a value is NaN or infinite.
    """

    logits: FloatArray
    features: FloatArray
    labels: IntArray
    index: IntArray
    weight: FloatArray
    bias: FloatArray
    extra_logits: FloatArray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    odin: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    rotation: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    made_from: Origin = field(default=Origin(), kw_only=True)

    def __post_init__(self) -> None:
        num_images, num_classes = self.logits.shape
        width = self.features.shape[1]
        if self.extra_logits.shape == (0, 0):
            object.__setattr__(self, "extra_logits", np.empty((num_images, 0), np.float32))
        for name in ("odin", "rotation"):
            if getattr(self, name).shape == (0, 0):
                object.__setattr__(self, name, np.empty((num_images, 0)))
        expected = {
            "features": (num_images, width),
            "labels": (num_images,),
            "index": (num_images,),
            "weight": (num_classes, width),
            "bias": (num_classes,),
            "extra_logits": (num_images, self.extra_logits.shape[1]),
            "odin": (num_images, self.odin.shape[1]),
            "rotation": (num_images, self.rotation.shape[1]),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise InputError(f"Outputs.{name} must have shape {shape}, not {getattr(self, name).shape}.")
        for name in ("logits", "features", "weight", "bias", "extra_logits", "odin", "rotation"):
            array = getattr(self, name)
            if not isinstance(array, LinearLogits) and not _all_finite(array):
                raise InputError(f"Outputs.{name} holds NaN or infinity: the network diverged.")
        if num_images and (self.labels.min() < BACKGROUND or self.labels.max() >= num_classes):
            raise InputError(f"Outputs.labels must lie in {BACKGROUND}..{num_classes - 1}.")

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def num_classes(self) -> int:
        """K, the number of known classes."""
        return int(self.logits.shape[1])

    @property
    def predictions(self) -> IntArray:
        """(N,) int64, the known class with the largest logit."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) bool, whether the predicted known class is the label; False for unknowns."""
        return np.asarray(self.predictions == self.labels)

    def select(self, rows: NDArray[Any]) -> Self:
        """The same head with only `rows` (boolean mask or indices) of the images."""
        names = ("logits", "features", "labels", "index", "extra_logits", "odin", "rotation")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def save(self, folder: Path) -> None:
        """Write one .npy file per array, and outputs.json about them, into `folder`, which is created.

        Logits that are not stored are not written, and arrays that are mapped from their file there stay.
        """
        folder.mkdir(parents=True, exist_ok=True)
        digests = dict[str, Any]()
        for name, path in _files(folder).items():
            array = getattr(self, name)
            if isinstance(array, LinearLogits):
                digests[BLOCK] = array.block
                continue
            if not _is_mapped_from(path, array):
                np.save(path, array, allow_pickle=False)
            digests[path.name] = file_digest(path)
        write_json(folder / DESCRIPTION, "outputs", digests, self.made_from)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote, memory-mapped; never runs stored code.

        Raises:
            InputError: a file is missing, damaged, or was changed.
        """
        stored, arrays = read_json(folder / DESCRIPTION, "outputs"), dict[str, Any]()
        for name, path in _files(folder).items():
            if name == "logits" and BLOCK in stored.content:
                continue
            if not path.is_file():
                raise InputError(f"{path} is missing: `osr run` makes it.")
            if file_digest(path) != stored.content.get(path.name):
                raise damaged(path, f"not what {DESCRIPTION} beside it names")
            try:
                arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise damaged(path, str(error)) from None
        try:
            if BLOCK in stored.content:
                head, block = (arrays["weight"], arrays["bias"]), int(stored.content[BLOCK])
                arrays["logits"] = LinearLogits(arrays["features"], *head, block=block)
            return cls(**arrays, made_from=stored.made_from)
        except ValueError as error:
            raise damaged(folder, str(error)) from None


def _files(folder: Path) -> dict[str, Path]:
    """The file of each array."""
    return {
        array.name: folder / f"{array.name}.npy" for array in fields(Outputs) if array.name != "made_from"
    }


def _is_mapped_from(path: Path, array: NDArray[Any]) -> bool:
    """Whether the array is that file, as it lies on the disk."""
    if not isinstance(array, np.memmap) or array.filename is None or not path.exists():
        return False
    return path.samefile(array.filename) and path.stat().st_size == array.offset + array.nbytes


def _all_finite(array: NDArray[Any], chunk: int = 1 << 16) -> bool:
    return all(bool(np.isfinite(array[start : start + chunk]).all()) for start in range(0, len(array), chunk))
