"""The model that MLflow serves: it stores this file as code, and the exported folder beside it.

A request holds images (N, H, W, C), integers in 0..255, as `inputs`, and may hold a threshold:
{"inputs": [[[[0], [255]], [[7], [9]]]], "params": {"threshold": 0.4}}
"""

from __future__ import annotations

from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier as Classifier
from osr.inference.requests import checked_images, checked_threshold


class OpenSetClassifier(PythonModel):  # type: ignore[misc]
    """Known class or "unknown", score and probabilities of each image."""

    def load_context(self, context: Any) -> None:
        """Read the folder that MLflow stored with the model."""
        self.classifier = Classifier.load(
            context.artifacts["classifier"],
            # Whoever loads this model runs the code that it carries; this is the class that was registered.
            allow_code=(context.model_config or {}).get("allow_code"),
        )

    # Without type hints, from which MLflow would infer what the input must be.
    def predict(self, model_input, params=None):  # type: ignore[no-untyped-def]
        """One record per image; the threshold is the fitted one unless `params` holds another.

        Raises:
            MlflowException: a sentence and status 400, where images or params cannot be judged.
        """
        try:
            threshold = checked_threshold(params or {})
            verdict = self.classifier.predict(checked_images(model_input), threshold=threshold)
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


set_model(OpenSetClassifier())
