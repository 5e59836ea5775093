"""Open-set recognition: splits, networks, detectors, metrics and figures. Arrays in, arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from pyspark.sql import DataFrame
    from ray.data import Dataset

    from osr.inference.classifier import OpenSetClassifier


def load(folder: Path | str, **options: Any) -> OpenSetClassifier:
    """The classifier that `osr export` wrote: see `osr.inference.classifier.OpenSetClassifier.load`."""
    from osr.inference.classifier import OpenSetClassifier  # PyTorch takes seconds to load

    return OpenSetClassifier.load(folder, **options)


def score_table(classifier: OpenSetClassifier, table: pa.Table, **options: Any) -> pa.Table:
    """The verdicts on an Arrow table of images: see `osr.inference.tables.score_table`."""
    from osr.inference.tables import score_table as scored

    return scored(classifier, table, **options)


def score_ray(dataset: Dataset, folder: Path | str, **options: Any) -> Dataset:
    """The verdicts on a Ray data set of images: see `osr.inference.engines.score_ray`."""
    from osr.inference.engines import score_ray as scored

    return scored(dataset, folder, **options)


def score_spark(frame: DataFrame, folder: Path | str, **options: Any) -> DataFrame:
    """The verdicts on a Spark data frame of images: see `osr.inference.engines.score_spark`."""
    from osr.inference.engines import score_spark as scored

    return scored(frame, folder, **options)
