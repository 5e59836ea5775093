"""The model that MLflow serves: it stores this file as code, and the exported folder beside it.

A request holds files of images in base64, or images (N, H, W, C) of integers in 0..255; perhaps a threshold:
{"inputs": ["iVBORw0KGgo…"], "params": {"threshold": 0.4}}
{"inputs": [[[[0], [255]], [[7], [9]]]]}
{"dataframe_split": {"columns": ["image"], "data": [["iVBORw0KGgo…"]]}}
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier as Classifier
from osr.inference.requests import checked_inputs, checked_threshold

COLUMN = "image"  # of a table of several columns


class Judge:
    """Judges what MLflow hands over; apart from its class, which warns of a `predict` without type hints."""

    classifier: Classifier

    # Without type hints: MLflow would infer from them what the input must be.
    def predict(self, model_input, params=None):  # type: ignore[no-untyped-def]
        """One record per image: label or "unknown", score, nearest known class and probabilities.

        Args:
            model_input: base64 or bytes of N image files, pixels (N, H, W, C), or a table with one column of
                files, or several of which `COLUMN` holds them.
            params: may hold `threshold`, instead of the fitted one.

        Raises:
            MlflowException: a sentence and status 400, where images or params cannot be judged.
        """
        try:
            threshold = checked_threshold(params or {})
            given = files_of(model_input) if isinstance(model_input, pd.DataFrame) else model_input
            verdict = self.classifier.predict(checked_inputs(given), threshold=threshold)
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        names = self.classifier.class_names
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


def files_of(table: pd.DataFrame) -> list[object]:
    """The column that holds images.

    Raises:
        InputError: several columns, and none of them is called `COLUMN`.
    """
    name = table.columns[0] if len(table.columns) == 1 else COLUMN
    if name not in table.columns:
        found = ", ".join(map(str, table.columns[:5])) or "none"
        raise InputError(
            f"A table must have one column of image files (bytes or base64), or one called {COLUMN!r}; its "
            f"columns are {found}."
        )
    return list(table[name])


class OpenSetClassifier(Judge, PythonModel):  # type: ignore[misc]
    """The class that MLflow loads."""

    def load_context(self, context: Any) -> None:
        """Read the folder that MLflow stored with the model."""
        self.classifier = Classifier.load(
            context.artifacts["classifier"],
            # Whoever loads this model runs the code that it carries; this is the class that was registered.
            allow_code=(context.model_config or {}).get("allow_code"),
        )


set_model(OpenSetClassifier())
