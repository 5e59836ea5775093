"""Verdicts that `osr predict` wrote, read again: a row that the classifier cannot have written is refused."""

from __future__ import annotations

import csv
import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.judgement import UNKNOWN_NAME, Scores
from osr.metrics.thresholds import conformal_p_values
from osr.settings.sentences import listed
from pipeline.places import check_verdicts

COLUMNS = ("file", "label", "score", "p_value", "nearest")
_NOT_VERDICTS = (
    KeyError,
    ValueError,
    TypeError,
    csv.Error,
    RecursionError,
)  # of reading what is no such file
_MAX_NAMES = 200  # characters of the classes in a sentence


class Verdicts(NamedTuple):
    """The rows that hold a verdict.

    Args:
        rows: N numbers, from 1.
        files: N names.
        labels: N, each a class or unknown.
        scores: (N,) float64, finite.
        p_values: (N,) float64 in 0..1, those of the scores.
        nearest: (N,) int64 in 0..K-1, the predicted classes.
    """

    rows: list[int]
    files: list[str]
    labels: list[str]
    scores: Scores
    p_values: Scores
    nearest: NDArray[np.int64]


def read_verdicts(file: Path, classifier: OpenSetClassifier, detectors: Sequence[str]) -> Verdicts:
    """What `osr predict` wrote of images that it could read.

    A label must be unknown or the nearest class, the score finite, the p-value the score's, and one threshold
    must part the rejected rows from the accepted ones: --threshold, --accept, --p-value and --fdr make one.
    Where the classifier's is per class, one must part those of each nearest class.

    Args:
        file: .parquet, .json, .jsonl, or CSV under any other name.
        classifier: that judged.
        detectors: of which one judged.

    Raises:
        InputError: the file is missing or holds something else; or a row cannot be of this classifier.
    """
    check_verdicts(file)
    found = Verdicts([], [], [], np.empty(0), np.empty(0), np.empty(0, np.int64))
    scores, p_values, codes = list[float](), list[float](), list[int]()
    for number, row in enumerate(_rows(file), 1):
        name, label, score, p_value, nearest = row
        if _is_empty(label) and _is_empty(score):
            continue
        place = f"{file}, row {number}, column"
        _check_names(place, label, nearest, classifier.class_names)
        scores.append(_number(f"{place} score", score))
        p_values.append(_number(f"{place} p_value", p_value))
        codes.append(classifier.class_names.index(nearest))
        found.rows.append(number)
        found.files.append(str(name))
        found.labels.append(label)
    predicted = np.array(codes, dtype=np.int64)
    found = found._replace(scores=np.array(scores), p_values=np.array(p_values), nearest=predicted)
    if found.rows:
        _check_p_values(file, found, classifier, detectors)
        is_per_class = any(classifier.parts.detectors[name][1].per_class for name in detectors)
        codes_apart = range(len(classifier.class_names)) if is_per_class else (None,)
        for code in codes_apart:
            _check_threshold(file, found, code)
    return found


def _rows(file: Path) -> Iterator[tuple[Any, ...]]:
    try:
        for row in _records(file):
            yield tuple(row[name] for name in COLUMNS)
    except _NOT_VERDICTS as error:
        raise InputError(f"{file} holds no verdicts of `osr predict`: {error!r:.100}.") from None


def _records(file: Path) -> Iterator[dict[str, Any]]:
    """Keys and values of each row; of CSV all values are text."""
    if file.suffix == ".parquet":
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table

        try:
            yield from read_table(file, columns=list(COLUMNS)).to_pylist()
        except (ArrowException, OSError) as error:
            raise ValueError(str(error)) from None
        return
    with file.open(encoding="utf-8", newline="") as lines:
        if file.suffix == ".json":
            yield from json.load(lines)
        elif file.suffix == ".jsonl":
            yield from map(json.loads, lines)
        else:
            yield from csv.DictReader(lines)


def _is_empty(value: Any) -> bool:
    return value is None or value == ""


def _number(place: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):  # of a whole number with hundreds of digits
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{place}: must be a finite number, not {str(value)[:40]!r}.")
    return number


def _check_names(place: str, label: Any, nearest: Any, class_names: Sequence[str]) -> None:
    for column, value, others in (("nearest", nearest, ()), ("label", label, (UNKNOWN_NAME,))):
        if value not in class_names and value not in others:
            names = textwrap.shorten(", ".join((*others, *class_names)), _MAX_NAMES)
            raise InputError(f"{place} {column}: must be one of {names}, not {str(value)[:40]!r}.")
    if label not in (UNKNOWN_NAME, nearest):
        raise InputError(
            f"{place} label: must be {UNKNOWN_NAME} or the nearest class, {nearest!r}, not {label!r}."
        )


def _check_p_values(
    file: Path, found: Verdicts, classifier: OpenSetClassifier, detectors: Sequence[str]
) -> None:
    made = {
        name: conformal_p_values(classifier.scores[name], found.scores, groups=classifier.groups)
        for name in detectors
    }
    wrong = {
        name: ~np.isclose(found.p_values, p_values, rtol=1e-9, atol=0) for name, p_values in made.items()
    }
    best = min(detectors, key=lambda name: int(wrong[name].sum()))
    count, total = int(wrong[best].sum()), len(found.rows)
    if len(detectors) > 1 and 2 * count > total:
        raise InputError(
            f"{file} is of another classifier: in {count:,} of {total:,} rows the p-value is not that of the"
            f" score by any of this one's detectors ({listed(detectors)})."
        )
    if count:
        at = int(wrong[best].argmax())
        raise InputError(
            f"{file}, row {found.rows[at]}, column p_value: {found.p_values[at]:.6g}, but a score of"
            f" {found.scores[at]:.6g} has {made[best][at]:.6g} by {best}: somebody changed the row, or"
            " another classifier or detector judged."
        )


def _check_threshold(file: Path, found: Verdicts, code: int | None) -> None:
    """Refuse rows, of one nearest class or of all, that no threshold parts."""
    unknown = np.array([label == UNKNOWN_NAME for label in found.labels])
    counts = np.full(len(unknown), True) if code is None else found.nearest == code
    rejected, kept = unknown & counts, ~unknown & counts
    if not kept.any() or not rejected.any():
        return
    accepted = int(np.where(kept, found.scores, -np.inf).argmax())
    lowest = int(np.where(rejected, found.scores, np.inf).argmin())
    if found.scores[accepted] >= found.scores[lowest]:
        raise InputError(
            f"{file}, row {found.rows[accepted]}, column label: {found.labels[accepted]!r} at a score of"
            f" {found.scores[accepted]:.6g}, but row {found.rows[lowest]} is {UNKNOWN_NAME} at"
            f" {found.scores[lowest]:.6g}: one threshold decides on all rows, so somebody changed one."
        )
