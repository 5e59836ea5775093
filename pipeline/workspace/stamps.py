"""What the files of a stage were made from: a file beside them, which later stages compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from osr.errors import InputError
from osr.stored.files import (
    damaged,
    digest_of,
    read_header,
    read_json,
    read_plain_json,
    without_nan,
    write_json,
)
from osr.stored.origin import Origin, check_origin, checked_digest
from pipeline.workspace.stages import ARTIFACTS, CALIBRATOR, SPLIT, STAGES, THRESHOLDS, WEIGHTS, Stage
from pipeline.workspace.swap import new

STAMP = "stage.json"


def check_stamps(name: str) -> None:
    """Compare what is on disk with what everything that the stage `name` reads was made from.

    Raises:
        InputError: files of an earlier stage were made from another split, other weights and so on.
    """
    for stage in _before(name):
        stamp = None if stage.folder is None else stage.folder / STAMP
        if stamp is not None and stamp.is_file():
            check(stage.folder or stamp, read_json(stamp, "stage").made_from, present(*stage.made_from))


def write_stamp(name: str, metrics: Mapping[str, Any]) -> None:
    """Put the digests of what is on disk, and of the metrics, beside the files of the stage `name`."""
    stage = STAGES[name]
    if stage.folder is not None:
        content = {"metrics": digest_of(without_nan(metrics))}
        write_json(new(stage.folder / STAMP), "stage", content, present(*stage.made_from))


def stage_metrics(name: str) -> dict[str, Any]:
    """The metrics of a stage, which must be those that it wrote together with its other files.

    Raises:
        InputError: a file is missing or damaged, or the metrics are of another run.
    """
    stage = STAGES[name]
    metrics = read_plain_json(stage.metrics)
    stamp = (stage.folder or stage.metrics) / STAMP
    if read_json(stamp, "stage").content.get("metrics") != digest_of(metrics):
        raise InputError(
            f"{stage.metrics} and {stage.folder} are of different runs: `osr run` makes them anew."
        )
    return metrics


def present(*names: str) -> Origin:
    """The digests of what is on disk; only of those named.

    Raises:
        InputError: a file is missing or damaged.
    """
    return Origin(**{name: _DIGESTS[name]() for name in names})


def check(path: Path, made_from: Origin, at_hand: Origin) -> None:
    """Refuse a file that was made from something else than what is at hand.

    Raises:
        InputError: a digest differs.
    """
    check_origin(path, made_from, at_hand, beside=ARTIFACTS)


def _before(name: str) -> list[Stage]:
    names = list(STAGES)
    return [STAGES[earlier] for earlier in names[: names.index(name)]]


def _split_digest() -> str:
    path = SPLIT / "split.json"
    try:
        return checked_digest(str(read_plain_json(path).get("digest")))
    except InputError:
        raise
    except ValueError as error:
        raise damaged(path, str(error)) from None


_DIGESTS: dict[str, Callable[[], str]] = {
    "split": _split_digest,
    "weights": lambda: read_header(WEIGHTS, "weights").digest,
    "calibration": lambda: read_json(CALIBRATOR, "calibration").digest,
    "thresholds": lambda: read_json(THRESHOLDS, "thresholds").digest,
}
