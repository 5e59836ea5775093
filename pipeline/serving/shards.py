"""One part of a large `osr predict`, for arrays of jobs: whole batches, one file, done once."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.judgement import Decision
from osr.settings.own_code import source_of
from osr.stored.digests import digest_of
from osr.stored.files import read_plain_json, write_whole
from osr.version import VERSION
from pipeline.serving.sources import Sources

logger = logging.getLogger("osr.predict")

DESCRIPTION = "_shards.json"  # who reads a folder as one table passes over names like this


class Shard(NamedTuple):
    """Part `number` of `of`, from 1; the value of `--shard`."""

    number: int
    of: int

    def rows(self, total: int, batch_size: int) -> range:
        """Which of all images: whole batches, so that each image is judged in the batch it would be in alone.

        The last bits of a score may depend on the other images of the batch.
        """
        batches = -(-total // batch_size)
        start, stop = (batches * part // self.of for part in (self.number - 1, self.number))
        return range(start * batch_size, min(stop * batch_size, total))

    def file(self, folder: Path, form: str) -> Path:
        """Where its verdicts are; in order of names, the files are in order of the images."""
        return folder / f"verdicts-{self.number:05}-of-{self.of:05}.{form}"


def is_done(file: Path, state: str) -> bool:
    """Whether the verdicts of a shard are there, on the images as they are now.

    Args:
        file: that holds them.
        state: `Sources.state` of its images.
    """
    if not file.is_file():
        return False
    note = _note_of(file)
    if note.is_file() and read_plain_json(note).get("images") == state:
        return True
    logger.warning("%s is of images that have changed since: they are judged again.", file)
    return False


def begin(file: Path, state: str) -> None:
    """Note on which images a shard is about to be judged, and remove what was there of it.

    Of two jobs at one shard, the later one goes on.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        for part in (file, *file.parent.glob(f".{file.name}.*.part")):
            part.unlink(missing_ok=True)
        write_whole(_note_of(file), json.dumps({"images": state}).encode())
    except OSError as error:
        raise InputError(f"{file.parent} cannot be written: {error.strerror}.") from error


def _note_of(file: Path) -> Path:
    return file.with_name(f"_{file.stem}.json")


def refuse_unfit(options: argparse.Namespace) -> None:
    """Raise `InputError` for what does not go with `--shard`."""
    if (options.shard is None) != (options.out is None):
        raise InputError("--shard and --out go together: which part, and the folder of all parts.")
    if options.shard is None:
        return
    for name, why in (
        ("output", "a shard is a file in the folder --out"),
        ("gallery", "a gallery shows all images, and a shard sees a part"),
        ("fdr", "it decides on all images together: apply it to the p-values of all shards"),
    ):
        if getattr(options, name) is not None:
            raise InputError(f"--{name} does not go with --shard: {why}.")


def agree(folder: Path, content: dict[str, Any]) -> None:
    """Let the shards of a folder be parts of one whole: the first writes what they are parts of.

    Args:
        folder: is made.
        content: JSON that each of them must have alike.

    Raises:
        InputError: the folder holds parts of something else, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".{DESCRIPTION}.{platform.node()}.{os.getpid()}"
        aside.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        with contextlib.suppress(FileExistsError):
            os.link(aside, folder / DESCRIPTION)  # whole, and by one of those who begin at once
        aside.unlink()
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from error
    found = read_plain_json(folder / DESCRIPTION)
    if different := [key for key in content if found.get(key) != content[key]]:
        key = different[0]
        raise InputError(
            f"{folder} holds shards of another call: its {key} is {found.get(key)!r:.200}, but here it is "
            f"{content[key]!r:.200}. Choose another folder for --out, or remove this one."
        )


def what_is_judged(
    classifier: OpenSetClassifier,
    decision: Decision,
    options: argparse.Namespace,
    sources: Sources,
    *,
    max_pixels: int,
) -> dict[str, Any]:
    """What all shards of a folder must have alike; see `agree`."""
    detector = decision.detector or classifier.detector
    return {
        "paths": list(options.paths),
        "images": sources.total,
        "names": sources.names(),
        "max_pixels": max_pixels,
        "shards": Shard(*options.shard).of,
        "format": options.format,
        "batch_size": classifier.batch_size,
        "osr": VERSION,
        "classifier": classifier.parts.made_from.model_dump(exclude_none=True),
        "code": digest_of(None, source_of(classifier.parts.model.settings.backbone.name)),
        "detector": detector,
        "threshold": None if decision.p_value is not None else classifier.threshold(decision),
        "p_value": decision.p_value,
    }
