"""Open-set recognition: splits, networks, detectors, metrics and figures. Arrays in, arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from osr.inference.classifier import OpenSetClassifier


def load(folder: Path | str, **options: Any) -> OpenSetClassifier:
    """The classifier that `osr export` wrote: see `osr.inference.classifier.OpenSetClassifier.load`."""
    from osr.inference.classifier import OpenSetClassifier  # PyTorch takes seconds to load

    return OpenSetClassifier.load(folder, **options)


def score_table(classifier: OpenSetClassifier, table: pa.Table, **options: Any) -> pa.Table:
    """The verdicts on an Arrow table of images: see `osr.inference.tables.score_table`."""
    from osr.inference.tables import score_table as scored

    return scored(classifier, table, **options)
