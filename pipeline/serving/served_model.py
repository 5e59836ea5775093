"""The model that MLflow serves: it stores this file as code, and the files of a run beside it.

A request holds images (N, H, W, C), integers in 0..255, as `inputs`, and may hold a threshold:
{"inputs": [[[[0], [255]], [[7], [9]]]], "params": {"threshold": 0.4}}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray

from osr.errors import InputError
from osr.inference.predictor import Predictor

BATCH_SIZE = 256
MAX_VALUES = 1 << 25  # of one request: 222 images of 224 x 224 in colour


class OpenSetClassifier(PythonModel):  # type: ignore[misc]
    """Known class or "unknown", score and probabilities of each image."""

    def load_context(self, context: Any) -> None:
        """Read the files that MLflow stored with the model."""
        files = {name: Path(path) for name, path in context.artifacts.items()}
        self.predictor = Predictor.load(
            weights=files["weights"],
            calibration=files["calibration"],
            detector=files["detector"],
            thresholds=files["thresholds"],
            batch_size=BATCH_SIZE,
            # Whoever loads this model runs the code that it carries; this is the class that was registered.
            allow_code=(context.model_config or {}).get("allow_code"),
        )

    def predict(self, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        """One record per image; the threshold is the fitted one unless `params` holds another.

        Raises:
            MlflowException: a sentence and status 400, where images or params cannot be judged.
        """
        try:
            threshold = checked_threshold(params or {})
            verdict = self.predictor.predict(checked_images(model_input), threshold=threshold)
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        names = self.predictor.class_names
        return [
            {
                "label": label,
                "score": float(score),
                "nearest": names[nearest],
                "probabilities": dict(zip(names, map(float, probabilities), strict=True)),
            }
            for label, score, nearest, probabilities in zip(
                verdict.labels, verdict.scores, verdict.predictions, verdict.probabilities, strict=True
            )
        ]


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
    except ValueError as error:
        raise InputError(f"inputs must be images (N, H, W, C) of one size: {error}.") from None
    if array.ndim != 4 or array.dtype.kind not in "ui":
        found = f"{array.dtype} of shape {array.shape}"
        hint = " (multiply images in 0..1 by 255 and round)" if array.dtype.kind == "f" else ""
        raise InputError(f"inputs must be images (N, H, W, C) of integers in 0..255{hint}, not {found}.")
    if array.size > MAX_VALUES:
        raise InputError(
            f"inputs hold {array.size:,} values, but at most {MAX_VALUES:,}: send fewer at once."
        )
    if array.size and not (array.min() >= 0 and array.max() <= 255):
        raise InputError(f"inputs must lie in 0..255, but go from {array.min()} to {array.max()}.")
    return array.astype(np.uint8)


def checked_threshold(params: Mapping[str, Any]) -> float | None:
    """The threshold among the params, if there is one.

    Raises:
        InputError: another key, or a threshold that is no number.
    """
    if unknown := sorted(map(str, set(params) - {"threshold"})):
        raise InputError(f"params may hold threshold, but hold {', '.join(unknown)}.")
    value = params.get("threshold")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise InputError(f"params.threshold must be a number, not {value!r}.")
    return float(value)


set_model(OpenSetClassifier())
