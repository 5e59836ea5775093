"""Verdicts as tables: an Arrow table of images in, one of verdicts out, for every engine that has tables.

The columns of verdicts, one row per image:

| column | type | holds |
|---|---|---|
| file | string | the path; of bytes the number of the row, or what the caller says |
| label | string | a known class, or "unknown" |
| score | double | of the detector, higher = more unknown |
| p_value | double | 1 / (n + 1) .. 1, how unusual such a score is for a known image |
| q_value | double | with `osr predict --fdr` alone: the smallest bound that the image is rejected at |
| nearest | string | the known class with the largest logit, whatever the score says |
| p/NAME | double | probability of the known class NAME, calibrated; they add up to 1 |
| reason | string | why there is no verdict: the image cannot be read |

Where there is a reason, all but `file` are null; where there is none, `reason` is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from osr.data.image_files import MAX_PIXELS
from osr.errors import InputError
from osr.inference.judgement import DEFAULT, Decision, Judgement
from osr.inference.streams import Read, Reader, read_ahead, source_of

if TYPE_CHECKING:
    import pyarrow as pa

    from osr.inference.classifier import OpenSetClassifier

Record = dict[str, Any]
IMAGE_COLUMNS = ("image", "bytes", "path", "file")
Q_VALUE = "q_value"


def score_table(
    classifier: OpenSetClassifier,
    table: pa.Table | pa.RecordBatch,
    *,
    column: str | None = None,
    decision: Decision = DEFAULT,
    max_pixels: int = MAX_PIXELS,
    num_workers: int = 0,
) -> pa.Table:
    """Judge the images of an Arrow table.

    Nothing is kept and nothing written: the same table gives the same verdicts, in whatever process. Images
    pass the network in batches of `classifier.batch_size` from the first row on, and the last bits of a score
    may depend on the batch; tables that are cut at multiples of it give what the whole one gives.

    Args:
        classifier: what `osr.load` gives.
        table: one row per image.
        column: that holds the images: paths, the bytes of files, or structs of `bytes` and `path` as on
            Hugging Face; None means the first of image, bytes, path and file that there is.
        decision: how to judge; otherwise by the fitted threshold of the default detector.
        max_pixels: of one image; a larger one is not read.
        num_workers: processes that read images; 0 reads in this one.

    Returns:
        As many rows, in the same order, with the columns of `verdict_schema`.

    Raises:
        InputError: no such column or detector, or a decision out of range. An image that cannot be read is no
            error: its row holds the reason.
    """
    classifier.check(decision)
    name = image_column(table.schema.names, column, of="The table", option="column")
    image_format, size = classifier.image_format, classifier.batch_size
    starts = range(0, table.num_rows, size)
    values = (value for start in starts for value in table.slice(start, size).column(name).to_pylist())
    sources = (source_of(value, str(row)) for row, value in enumerate(values))
    reader = Reader(image_format.frame, image_format.channels, max_pixels)
    names, rows = classifier.class_names, list[Record]()
    for batch in read_ahead(sources, reader, batch_size=size, num_workers=num_workers):
        rows += records(batch, judge(classifier, batch, decision), names)
    return verdict_table(rows, columns(names))


def judge(classifier: OpenSetClassifier, batch: Sequence[Read], decision: Decision) -> Judgement | None:
    """The verdicts on those that could be read, in order; None where there are none."""
    images = [read.pixels for read in batch if read.pixels is not None]
    names = [read.name for read in batch if read.pixels is not None]
    return classifier.judge(images, decision, names=names) if images else None


def columns(class_names: Sequence[str], *, fdr: bool = False) -> list[str]:
    """Of a verdict, in order; `fdr`: with a `q_value`."""
    shares, of_all = [f"p/{name}" for name in class_names], [Q_VALUE] if fdr else []
    return ["file", "label", "score", "p_value", *of_all, "nearest", *shares, "reason"]


def records(
    batch: Sequence[Read], found: Judgement | None, class_names: Sequence[str], *, fdr: bool = False
) -> Iterator[Record]:
    """One per image, in order, with a key for each of the `columns`; what is not known yet is None.

    Those that cannot be read hold their name and the reason.
    """
    blank: Record = dict.fromkeys(columns(class_names, fdr=fdr))
    shares = [f"p/{name}" for name in class_names]
    row = 0
    for read in batch:
        record = blank | {"file": read.name, "reason": read.reason or None}
        if found is not None and read.pixels is not None:
            record |= {
                "label": found.labels[row],
                "score": float(found.scores[row]),
                "p_value": float(found.p_values[row]),
                "nearest": class_names[found.predictions[row]],
            }
            record |= zip(shares, found.probabilities[row].tolist(), strict=True)
            row += 1
        yield record


def verdict_schema(names: Sequence[str]) -> pa.Schema:
    """The Arrow schema of some `columns`, in order."""
    import pyarrow as pa  # not everybody who judges images makes tables

    return pa.schema([(name, pa.float64() if _is_number(name) else pa.string()) for name in names])


def verdict_table(rows: Sequence[Record], names: Sequence[str]) -> pa.Table:
    """Records as a table; what UTF-8 does not hold, as in names of files, stands there with backslashes."""
    import pyarrow as pa

    schema = verdict_schema(names)
    cells = ([printable(row[name], "utf-8") for row in rows] for name in names)
    arrays = [pa.array(values, field.type) for values, field in zip(cells, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def image_column(names: Sequence[str], asked: str | None, *, of: str, option: str) -> str:
    """The column that holds images.

    Args:
        names: of all columns.
        asked: None means the first of `IMAGE_COLUMNS` that there is.
        of: which table, for the error.
        option: that names a column, for the error.

    Raises:
        InputError: there is none.
    """
    wanted = IMAGE_COLUMNS if asked is None else (asked,)
    for name in wanted:
        if name in names:
            return name
    raise InputError(
        f"{of} has no column {' or '.join(wanted)}: name one with {option}, of {', '.join(names)}."
    )


def printable(value: Any, encoding: str) -> Any:
    """Text that the encoding holds; other values as they are."""
    if not isinstance(value, str):
        return value
    return value.encode(encoding, "backslashreplace").decode(encoding)


def _is_number(column: str) -> bool:
    return column in ("score", "p_value", Q_VALUE) or column.startswith("p/")
