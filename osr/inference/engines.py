"""Verdicts in Ray Data and Spark: the exported folder is loaded once in each worker, tables pass through it.

Both call `osr.score_table` on tables of `batch_size` images, and add nothing to it: see there for columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from osr.data.image_files import MAX_PIXELS
from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.folder import MANIFEST
from osr.inference.judgement import DEFAULT, Decision
from osr.inference.tables import columns, score_table, verdict_schema
from osr.stored.digests import file_digest

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark.sql import DataFrame
    from ray.data import Dataset

_THROUGH = ("arrow", "pandas")
_SQL_TYPES = {"string": "string", "double": "double"}  # of Arrow's types in `verdict_schema`


class Scorer:
    """An exported folder in a process: maps tables of images to tables of verdicts.

    It is the actor of Ray's `map_batches(Scorer, batch_format="pyarrow", ...)`, and may be that of any other
    engine.

    Args:
        folder: that `osr export` wrote; all workers must see it.
        column: that holds the images; see `osr.score_table`.
        keep: columns of the table that stand before the verdicts, such as a key.
        decision: how to judge; otherwise by the fitted threshold of the default detector.
        device: where network and detectors compute.
        max_pixels: of one image; a larger one is not read.
        allow_code: the one `module:Class` that may be imported for the network.
        version: what `folder_version` must give of the folder; None takes any.

    Raises:
        InputError: the folder cannot be used or is of another version, no such detector, or a column of
            `keep` has the name of one of the verdicts.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        column: str | None = None,
        keep: Sequence[str] = (),
        decision: Decision = DEFAULT,
        device: str = "cpu",
        max_pixels: int = MAX_PIXELS,
        allow_code: str | None = None,
        version: str | None = None,
    ) -> None:
        if version is not None and (found := folder_version(folder)) != version:
            raise InputError(f"{folder} is {found} for this worker, but {version} where the job began.")
        self.classifier = OpenSetClassifier.load(folder, device=device, allow_code=allow_code)
        self.classifier.check(decision)
        self.column, self.keep, self.decision, self.max_pixels = column, tuple(keep), decision, max_pixels
        if taken := sorted(set(self.keep) & set(self.columns)):
            raise InputError(
                f"keep names {', '.join(taken)}, which the verdicts have, too: rename the column."
            )

    @property
    def columns(self) -> list[str]:
        """Of the verdicts, in order."""
        return columns(self.classifier.class_names)

    def __call__(self, table: pa.Table) -> pa.Table:
        """The verdicts on N images, a row each, behind the columns to keep.

        Raises:
            InputError: the table lacks a column.
        """
        if missing := [name for name in self.keep if name not in table.schema.names]:
            told = ", ".join(table.schema.names)
            raise InputError(
                f"The table has no column {missing[0]}, which keep names; its columns are {told}."
            )
        found = score_table(
            self.classifier,
            table,
            column=self.column,
            decision=self.decision,
            max_pixels=self.max_pixels,
        )
        for position, name in enumerate(self.keep):
            found = found.add_column(position, table.schema.field(name), table.column(name))
        return found


def score_ray(
    dataset: Dataset,
    folder: Path | str,
    *,
    num_workers: int = 1,
    ray_options: dict[str, Any] | None = None,
    scorer: type[Scorer] = Scorer,
    **options: Any,
) -> Dataset:
    """Verdicts on the images of a Ray data set, by actors that each hold the classifier.

    Ray starts an actor again that has ended, and gives its tables to another one.

    Args:
        dataset: one row per image.
        folder: that `osr export` wrote; all machines must see it.
        num_workers: actors.
        ray_options: of `map_batches`, such as `{"num_gpus": 1}`.
        scorer: what each worker makes; a class of yours on top of `Scorer` that logs or counts, say.
        options: see `Scorer`.

    Raises:
        InputError: Ray is not installed, or see `Scorer`.
    """
    try:
        from ray.data import ActorPoolStrategy
    except ImportError:
        raise _missing("Ray Data", "ray") from None
    version = folder_version(folder)
    here = Scorer(folder, **{**options, "device": "cpu"}, version=version)
    return dataset.map_batches(
        scorer,
        fn_constructor_args=(str(folder),),
        fn_constructor_kwargs={**options, "version": version},
        batch_size=here.classifier.batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=num_workers),
        **(ray_options or {}),
    )


def score_spark(
    frame: DataFrame,
    folder: Path | str,
    *,
    through: Literal["arrow", "pandas"] = "arrow",
    scorer: type[Scorer] = Scorer,
    **options: Any,
) -> DataFrame:
    """Verdicts on the images of a Spark data frame; each of Spark's Python workers loads the classifier once.

    A table has `spark.sql.execution.arrow.maxRecordsPerBatch` images, 10,000 unless that is set: take a small
    multiple of the classifier's batch size, since a worker holds the bytes of a whole table.

    Args:
        frame: one row per image.
        folder: that `osr export` wrote; driver and executors must see it.
        through: `mapInArrow`, or `mapInPandas` where a platform offers that alone; the verdicts are the same.
        scorer: what each worker makes: see `score_ray`; in a module that workers can import.
        options: see `Scorer`.

    Raises:
        InputError: Spark is not installed, the frame lacks a column to keep, no such way `through`, or see
            `Scorer`.
    """
    if through not in _THROUGH:
        raise InputError(f"through is {through!r}, but must be one of {', '.join(_THROUGH)}.")
    try:
        from pyspark.sql import DataFrame as SparkFrame
    except ImportError:
        raise _missing("Spark", "spark") from None
    if not isinstance(frame, SparkFrame):
        raise InputError(f"frame must be a data frame of Spark, not {type(frame).__name__}.")
    version = folder_version(folder)
    here, schema = Scorer(folder, **{**options, "device": "cpu"}, version=version), dict(frame.dtypes)
    if missing := [name for name in here.keep if name not in schema]:
        raise _no_column("The frame", missing[0], list(schema))
    types = {name: schema[name] for name in here.keep}
    types |= {field.name: _SQL_TYPES[str(field.type)] for field in verdict_schema(here.columns)}
    told = ", ".join(f"`{name.replace('`', '``')}` {kind}" for name, kind in types.items())
    settings = {**options, "keep": here.keep, "version": version}
    made = scorer, str(folder), tuple(sorted(settings.items()))

    def verdicts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        judge = _kept(made)
        for batch in batches:
            yield from judge(pa.Table.from_batches([batch])).combine_chunks().to_batches()

    def pandas_verdicts(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import pyarrow as pa

        judge = _kept(made)
        for part in frames:
            yield judge(pa.Table.from_pandas(part, preserve_index=False)).to_pandas()

    if through == "pandas":
        return frame.mapInPandas(pandas_verdicts, told)
    return frame.mapInArrow(verdicts, told)


def folder_version(folder: Path | str) -> str:
    """Digest of what an exported folder says it holds: another run, another version.

    Raises:
        InputError: it is no such folder.
    """
    manifest = Path(folder) / MANIFEST
    if not manifest.is_file():
        raise InputError(f"{folder} holds no {MANIFEST}: `osr export` makes such a folder.")
    return file_digest(manifest)


@lru_cache(maxsize=1)
def _kept(made: tuple[type[Scorer], str, tuple[tuple[str, Any], ...]]) -> Scorer:
    """The scorer of a worker of Spark, which lives from task to task."""
    scorer, folder, settings = made
    return scorer(folder, **dict(settings))


def _missing(name: str, extra: str) -> InputError:
    return InputError(f"{name} is not installed: pip install 'osr[{extra}]'.")


def _no_column(of: str, name: str, names: Sequence[str]) -> InputError:
    return InputError(f"{of} has no column {name}, which keep names; its columns are {', '.join(names)}.")
