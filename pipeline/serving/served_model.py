"""The model that MLflow serves: it stores this file as code, and the files of a run beside it.

A request holds images (N, H, W, C) uint8 as `inputs`, and may hold a threshold:
{"inputs": [[[[0], [255]], [[7], [9]]]], "params": {"threshold": 0.4}}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from osr.inference.predictor import Predictor

BATCH_SIZE = 256


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
        )

    def predict(self, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        """One record per image; the threshold is the fitted one unless `params` holds another."""
        images = np.asarray(model_input, np.uint8)
        verdict = self.predictor.predict(images, threshold=(params or {}).get("threshold"))
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


set_model(OpenSetClassifier())
