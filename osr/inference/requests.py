"""What somebody may ask of a served classifier; nothing is cut, wrapped, rescaled or passed over."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr.errors import InputError
from osr.metrics.conformal import Theta

MAX_VALUES = 1 << 25  # of one request: 222 images of 224 x 224 in colour


def checked_inputs(values: Any) -> list[bytes] | NDArray[np.uint8]:
    """The bytes of N image files, or the pixels of N images.

    Args:
        values: N texts in base64 or byte strings, each the file of an image (PNG, JPEG or other); or what
            `checked_images` takes.

    Raises:
        InputError: text that is no base64, or see `checked_images`.
    """
    is_flat = isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.ndim == 1)
    if is_flat and len(values) and all(isinstance(value, str | bytes) for value in values):
        return [_file(value, number) for number, value in enumerate(values)]
    return checked_images(values)


def _file(value: str | bytes, number: int) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise InputError(f"image {number} is no base64 of an image's file.") from None


def checked_images(values: Any) -> NDArray[np.uint8]:
    """Images (N, H, W, C) uint8; nothing is cut, wrapped or rescaled on the way.

    Args:
        values: an array, or lists in lists, of integers in 0..255. Floats are refused, even whole ones:
            nobody can tell whether 1.0 is white or nearly black.

    Raises:
        InputError: another shape or type, too many values, or one outside 0..255.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError("inputs must be images (N, H, W, C) of one size, not lists of several.") from None
    if array.ndim != 4 or array.dtype.kind not in "ui":
        found = f"{array.dtype} of shape {array.shape}"
        hint = " (multiply images in 0..1 by 255 and round)" if array.dtype.kind == "f" and array.size else ""
        raise InputError(f"inputs must be images (N, H, W, C) of integers in 0..255{hint}, not {found}.")
    if array.size > MAX_VALUES:
        raise InputError(
            f"inputs hold {array.size:,} values, but at most {MAX_VALUES:,}: send fewer at once."
        )
    if array.size and not (array.min() >= 0 and array.max() <= 255):
        raise InputError(f"inputs must lie in 0..255, but go from {array.min()} to {array.max()}.")
    return array.astype(np.uint8)


def checked_threshold(params: Mapping[str, Any]) -> Theta | None:
    """The threshold among the params, if there is one: a number, or a list of one for each class.

    Raises:
        InputError: another key, or a threshold that is no number.
    """
    if unknown := sorted(map(str, set(params) - {"threshold"})):
        raise InputError(f"params may hold threshold, but hold {', '.join(unknown)}.")
    value = params.get("threshold")
    if value is None:
        return None
    if isinstance(value, list | tuple | np.ndarray) and len(value) and np.ndim(value) == 1:
        return tuple(_number(entry) for entry in value)
    return _number(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise InputError(f"params.threshold must be a number, not {value!r}.")
    return float(value)
