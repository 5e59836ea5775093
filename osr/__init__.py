"""Open-set recognition: splits, networks, detectors, metrics and figures. Arrays in, arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from osr.inference.classifier import OpenSetClassifier


def load(folder: Path | str, **options: Any) -> OpenSetClassifier:
    """The classifier that `osr export` wrote: see `osr.inference.classifier.OpenSetClassifier.load`."""
    from osr.inference.classifier import OpenSetClassifier  # PyTorch takes seconds to load

    return OpenSetClassifier.load(folder, **options)
