"""Which classes are known and which images train, validate and test.

Labels: 0..K-1 known, -1 unknown, -2 background.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from osr.errors import InputError
from osr.outputs import BACKGROUND, UNKNOWN, IntArray
from osr.splits.leaks import HashArray, repeated_images
from osr.splits.manifest import read_manifest, write_manifest
from osr.splits.names import similar_names
from osr.splits.rules import HELD_OUT as HELD_OUT
from osr.splits.rules import PARTS as PARTS
from osr.splits.rules import check_classes, check_groups, check_parts, check_rows


@dataclass(frozen=True, eq=False)
class Split:
    """Groups of classes and parts of images that cannot leak into each other.

    Args:
        targets: (N,) int64, class id of every image of the data set.
        class_names: the name of each class id.
        known: class ids trained on; a known class's label is its position here.
        background: class ids that may be shown in training as "not known", never tested.
        unknown: class ids that appear only in the test part.
        train, val, test: rows of the data set, sorted.
        groups: (N,) int64, images of one number (a track, a patient, a video) stay in one part; None where
            every image stands for itself.
        hashes: (N,) uint64 of the pixels, see `osr.data.hashes`; None where pixels were not looked at.
        sources: the data set that each class id comes from, by the name of its unknown set; `HELD_OUT` for
            the main one. None where there is no other.

    Raises:
        InputError: a class in two places, a row or a group in two parts, rows that are not sorted, an unknown
            outside test, or a known class missing from a part.
    """

    targets: IntArray
    class_names: tuple[str, ...]
    known: tuple[int, ...]
    background: tuple[int, ...]
    unknown: tuple[int, ...]
    train: IntArray
    val: IntArray
    test: IntArray
    groups: IntArray | None = None
    hashes: HashArray | None = None
    sources: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        roles = {"known": self.known, "background": self.background, "unknown": self.unknown}
        rows = {part: self.rows(part) for part in PARTS}
        check_classes(roles, names=self.class_names, sources=self.sources)
        others = {"groups": self.groups, "hashes": self.hashes}
        check_rows(rows, self.targets, num_classes=len(self.class_names), others=others)
        check_parts(rows, self.targets, roles=roles, names=self.class_names)
        check_groups(self.groups, self.part_codes)

    def rows(self, part: str) -> IntArray:
        """Rows of one part: train, val or test."""
        return {"train": self.train, "val": self.val, "test": self.test}[part]

    def known_rows(self, part: str) -> IntArray:
        """Rows of one part whose class is known."""
        rows = self.rows(part)
        return rows[self.labels[rows] >= 0]

    @property
    def known_names(self) -> tuple[str, ...]:
        """Names of the known classes, in label order."""
        return tuple(self.class_names[number] for number in self.known)

    def source_of(self, number: int) -> str:
        """Name of the unknown set that a class id belongs to."""
        return HELD_OUT if self.sources is None else self.sources[number]

    @cached_property
    def part_codes(self) -> IntArray:
        """(N,) int64, position of each image's part in `PARTS`; -1 for an image in no part."""
        codes = np.full(len(self.targets), -1, dtype=np.int64)
        for code, part in enumerate(PARTS):
            codes[self.rows(part)] = code
        return codes

    @cached_property
    def duplicates(self) -> list[list[int]]:
        """Rows of identical images that stand in more than one part: one list per image, in order of rows."""
        return [] if self.hashes is None else repeated_images(self.hashes, self.part_codes)

    @cached_property
    def contradictions(self) -> list[list[int]]:
        """Rows of identical images that are tested as known and as unknown: one list per image."""
        if self.hashes is None:
            return []
        tested_as = np.full(len(self.targets), -1, dtype=np.int64)
        tested_as[self.test] = self.labels[self.test] >= 0
        return repeated_images(self.hashes, tested_as)

    @cached_property
    def label_conflicts(self) -> list[list[int]]:
        """Rows of identical images of several known classes, or of a known one and one that is not."""
        if self.hashes is None:
            return []
        first_free = len(self.known)
        shown_as = np.where(self.labels >= 0, self.labels, first_free - self.labels)
        return repeated_images(self.hashes, np.where(self.part_codes < 0, -1, shown_as))

    @property
    def similar_names(self) -> list[list[str]]:
        """Names of classes that may be one class, one of them known; see `osr.splits.names.similar_names`."""
        names = {
            number: self.class_names[number].removeprefix(f"{self.source_of(number)}/")
            for number in (*self.known, *self.background, *self.unknown)
        }
        alike = similar_names(names, set(self.known))
        return [[self.class_names[number] for number in numbers] for numbers in alike]

    @property
    def unlisted(self) -> dict[str, int]:
        """Classes of no role, whose images stand in no part, and how many images each has."""
        listed = {*self.known, *self.background, *self.unknown}
        counts = np.bincount(self.targets, minlength=len(self.class_names)).tolist()
        return {name: counts[number] for number, name in enumerate(self.class_names) if number not in listed}

    @cached_property
    def labels(self) -> IntArray:
        """(N,) int64 label of every image; -1 also for classes in no group, which stand in no part."""
        of_class = np.full(len(self.class_names), UNKNOWN, dtype=np.int64)
        of_class[list(self.known)] = np.arange(len(self.known))
        of_class[list(self.background)] = BACKGROUND
        return of_class[self.targets]

    @cached_property
    def digest(self) -> str:
        """16 hex digits over classes, parts, targets, groups and pixels: equal digests, equal splits."""
        content = hashlib.sha256()
        content.update(json.dumps([self.class_names, self.known, self.background, self.unknown]).encode())
        for rows in (self.targets, self.train, self.val, self.test):
            content.update(
                len(rows).to_bytes(8, "little") + np.ascontiguousarray(rows, dtype="<i8").tobytes()
            )
        for name in ("groups", "hashes"):
            array = getattr(self, name)
            if array is not None:
                content.update(name.encode() + np.ascontiguousarray(array, dtype="<u8").tobytes())
        if self.sources is not None:
            content.update(json.dumps(self.sources).encode())
        return content.hexdigest()[:16]

    @cached_property
    def test_digest(self) -> str:
        """16 hex digits over known and unknown classes, test images and their pixels.

        Equal digests, equal tests: splits that differ in training or validation images alone share it.
        """
        content = hashlib.sha256(json.dumps([self.class_names, self.known, self.unknown]).encode())
        for values in (self.test, self.targets[self.test]):
            content.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
        if self.hashes is not None:
            content.update(np.ascontiguousarray(self.hashes[self.test], dtype="<u8").tobytes())
        return content.hexdigest()[:16]

    def training_counts(self) -> dict[str, int]:
        """Training images of each known class, by its name."""
        labels = self.labels[self.train]
        counts = np.bincount(labels[labels >= 0], minlength=len(self.known)).tolist()
        return dict(zip(self.known_names, counts, strict=True))

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per class name and part, known classes first."""
        sizes = {
            part: np.bincount(self.targets[self.rows(part)], minlength=len(self.class_names))
            for part in PARTS
        }
        return {
            self.class_names[number]: {part: int(sizes[part][number]) for part in PARTS}
            for number in self.known + self.background + self.unknown
        }

    def source_counts(self) -> dict[str, int]:
        """Unknown test images per unknown set; empty where there is none beside the held-out classes."""
        if self.sources is None:
            return {}
        sizes = np.bincount(self.targets[self.test], minlength=len(self.class_names))
        counts = dict.fromkeys(self.sources, 0)
        for number in self.unknown:
            counts[self.sources[number]] += int(sizes[number])
        return {source: count for source, count in counts.items() if count}

    def save(self, folder: Path) -> None:
        """Write split.json (groups, counts, digest) and manifest.csv (every image) into `folder`."""
        (folder / "split.json").write_text(json.dumps(self._summary(), indent=2) + "\n", encoding="utf-8")
        columns: dict[str, NDArray[Any]] = {
            "row": np.arange(len(self.targets)),
            "class_id": self.targets,
            "label": self.labels,
            "part": np.array([*PARTS, "unused"])[self.part_codes],  # code -1 is the last
        }
        if self.groups is not None:
            columns["group"] = self.groups
        if self.hashes is not None:
            columns["hash"] = self.hashes
        write_manifest(folder / "manifest.csv", columns)

    def _summary(self) -> dict[str, Any]:
        groups = {
            name: list(getattr(self, name)) for name in ("class_names", "known", "background", "unknown")
        }
        return {
            "digest": self.digest,
            "test_digest": self.test_digest,
            **groups,
            **({} if self.sources is None else {"sources": list(self.sources)}),
            "counts": self.counts(),
            "duplicates": _listed(self.duplicates),
            "contradictions": _listed(self.contradictions),
            "label_conflicts": _listed(self.label_conflicts),
        }

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: a file is missing, or the files do not match the digest or each other.
        """
        for name in ("split.json", "manifest.csv"):
            if not (folder / name).is_file():
                raise InputError(f"{folder / name} is missing: `osr run prepare-split` makes it.")
        changed = f"{folder} was changed by hand, or is not whole: run `osr run --force prepare-split`"
        try:
            summary: dict[str, Any] = json.loads((folder / "split.json").read_text(encoding="utf-8"))
            columns = read_manifest(folder / "manifest.csv")
            split = cls(
                targets=columns["class_id"],
                class_names=tuple(summary["class_names"]),
                known=tuple(summary["known"]),
                background=tuple(summary["background"]),
                unknown=tuple(summary["unknown"]),
                **{part: np.flatnonzero(columns["part"] == part.encode()) for part in PARTS},
                groups=columns.get("group"),
                hashes=columns.get("hash"),
                sources=tuple(summary["sources"]) if "sources" in summary else None,
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise InputError(f"{changed} ({str(error).rstrip('.')}).") from error
        if split.digest != summary["digest"]:
            raise InputError(f"{changed} (its digest is {split.digest}, not {summary['digest']}).")
        is_whole = split._summary() == summary and (columns["label"] == split.labels).all()
        if not (is_whole and (columns["row"] == np.arange(len(split.targets))).all()):
            raise InputError(
                f"{changed} (its rows, labels or counts do not follow from its classes and parts)."
            )
        return split


def _listed(copies: list[list[int]]) -> dict[str, Any]:
    return {"images": len(copies), "copies": sum(map(len, copies)), "rows": copies}
