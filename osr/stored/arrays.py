"""Model files with arrays: safetensors whose header says what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from osr.stored.files import Stored, damaged, read_header, write_header
from osr.stored.origin import Kind, Origin

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]


def write_arrays(
    path: Path, kind: Kind, content: Mapping[str, Any], made_from: Origin, arrays: Mapping[str, Array]
) -> str:
    """Write numpy arrays and JSON content, whole or not at all; returns the digest of both."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return write_header(path, kind, content, made_from, save(whole))


def write_tensors(
    path: Path, kind: Kind, content: Mapping[str, Any], made_from: Origin, tensors: Mapping[str, Tensor]
) -> str:
    """The same of tensors, wherever they are; those that share memory (tied weights) are written apart."""
    from safetensors.torch import save

    whole, held = dict[str, Any](), set[int]()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        whole[name] = own.clone() if place in held else own
        held.add(place)
    return write_header(path, kind, content, made_from, save(whole))


def read_arrays(path: Path, kind: Kind) -> tuple[Stored, dict[str, Array]]:
    """What `write_arrays` wrote, in order of names.

    Raises:
        InputError: the file is missing, damaged, of another kind, or was changed.
    """
    return _read(path, kind, "np")


def read_tensors(path: Path, kind: Kind) -> tuple[Stored, dict[str, Tensor]]:
    """What `write_tensors` wrote, on the CPU, in order of names.

    Raises:
        InputError: the file is missing, damaged, of another kind, or was changed.
    """
    return _read(path, kind, "pt")


def _read(path: Path, kind: Kind, framework: str) -> tuple[Stored, dict[str, Any]]:
    stored = read_header(path, kind)
    try:
        with safe_open(path, framework=framework) as file:
            return stored, {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise damaged(path, f"no arrays: {error}") from None
