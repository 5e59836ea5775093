"""Which classes are known and which images train, validate and test.

Labels: 0..K-1 known, -1 unknown, -2 background.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from osr.errors import InputError
from osr.outputs import BACKGROUND, UNKNOWN, IntArray

PARTS = ("train", "val", "test")


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

    Raises:
        InputError: a class in two groups, a row in two parts, rows that are not sorted, an unknown outside
            test, or a known class missing from a part.
    """

    targets: IntArray
    class_names: tuple[str, ...]
    known: tuple[int, ...]
    background: tuple[int, ...]
    unknown: tuple[int, ...]
    train: IntArray
    val: IntArray
    test: IntArray

    def __post_init__(self) -> None:
        self._check_groups()
        self._check_parts()

    def _check_groups(self) -> None:
        groups = {"known": self.known, "background": self.background, "unknown": self.unknown}
        seen: dict[int, str] = {}
        for group, classes in groups.items():
            for number in classes:
                if not 0 <= number < len(self.class_names):
                    raise InputError(
                        f"split.{group}: class id {number} must lie in 0..{len(self.class_names) - 1}."
                    )
                if number in seen:
                    where = (
                        f"twice in {group}" if seen[number] == group else f"in {seen[number]} and in {group}"
                    )
                    raise InputError(
                        f"split: class {self.class_names[number]!r} stands {where}; one place per class."
                    )
                seen[number] = group

    def _check_parts(self) -> None:
        if len(self.targets) and not 0 <= self.targets.min() <= self.targets.max() < len(self.class_names):
            raise InputError(f"split: class ids of images must lie in 0..{len(self.class_names) - 1}.")
        unique, counts = np.unique(np.concatenate([self.rows(part) for part in PARTS]), return_counts=True)
        if (counts > 1).any():
            raise InputError(
                f"split: image {unique[counts > 1][0]} stands twice in train, val and test; once per image."
            )
        if len(unique) and not 0 <= unique[0] <= unique[-1] < len(self.targets):
            raise InputError(f"split: rows must lie in 0..{len(self.targets) - 1}.")
        for part in PARTS:
            if (np.diff(self.rows(part)) < 0).any():
                raise InputError(f"split: the rows of {part} must be sorted.")
        allowed = {
            "train": (self.known + self.background),
            "val": self.known,
            "test": self.known + self.unknown,
        }
        for part, classes in allowed.items():
            present = set(np.unique(self.targets[self.rows(part)]).tolist())
            for number in sorted(present - set(classes)):
                raise InputError(f"split: class {self.class_names[number]!r} must not appear in {part}.")
            for number in self.known:
                if number not in present:
                    raise InputError(
                        f"split: known class {self.class_names[number]!r} has no image in {part}."
                    )

    def rows(self, part: str) -> IntArray:
        """Rows of one part: train, val or test."""
        return {"train": self.train, "val": self.val, "test": self.test}[part]

    @property
    def known_names(self) -> tuple[str, ...]:
        """Names of the known classes, in label order."""
        return tuple(self.class_names[number] for number in self.known)

    @cached_property
    def labels(self) -> IntArray:
        """(N,) int64 label of every image; -1 also for classes in no group, which stand in no part."""
        of_class = np.full(len(self.class_names), UNKNOWN, dtype=np.int64)
        of_class[list(self.known)] = np.arange(len(self.known))
        of_class[list(self.background)] = BACKGROUND
        return of_class[self.targets]

    @cached_property
    def digest(self) -> str:
        """16 hex digits over groups, parts and targets: equal digests, equal splits."""
        content = hashlib.sha256()
        content.update(json.dumps([self.class_names, self.known, self.background, self.unknown]).encode())
        for rows in (self.targets, self.train, self.val, self.test):
            content.update(
                len(rows).to_bytes(8, "little") + np.ascontiguousarray(rows, dtype="<i8").tobytes()
            )
        return content.hexdigest()[:16]

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per class name and part, known classes first."""
        order = self.known + self.background + self.unknown
        return {
            self.class_names[number]: {
                part: int((self.targets[self.rows(part)] == number).sum()) for part in PARTS
            }
            for number in order
        }

    def save(self, folder: Path) -> None:
        """Write split.json (groups, counts, digest) and manifest.csv (every image) into `folder`."""
        (folder / "split.json").write_text(json.dumps(self._summary(), indent=2) + "\n", encoding="utf-8")
        part_of = np.full(len(self.targets), "unused")
        for part in PARTS:
            part_of[self.rows(part)] = part
        with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["row", "class_id", "label", "part"])
            writer.writerows(zip(range(len(self.targets)), self.targets, self.labels, part_of, strict=True))

    def _summary(self) -> dict[str, Any]:
        groups = {
            name: list(getattr(self, name)) for name in ("class_names", "known", "background", "unknown")
        }
        return {"digest": self.digest, **groups, "counts": self.counts()}

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: a file is missing, or the files do not match the digest or each other.
        """
        for name in ("split.json", "manifest.csv"):
            if not (folder / name).is_file():
                raise InputError(f"{folder / name} is missing: run `dvc repro prepare-split` to make it.")
        changed = f"{folder} was changed by hand, or is not whole: run `dvc repro --force prepare-split`"
        try:
            summary: dict[str, Any] = json.loads((folder / "split.json").read_text(encoding="utf-8"))
            with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
                lines = list(csv.DictReader(file))
            numbers = {
                name: np.array([int(line[name]) for line in lines], dtype=np.int64)
                for name in ("row", "class_id", "label")
            }
            parts = np.array([line["part"] for line in lines])
            split = cls(
                targets=numbers["class_id"],
                class_names=tuple(summary["class_names"]),
                known=tuple(summary["known"]),
                background=tuple(summary["background"]),
                unknown=tuple(summary["unknown"]),
                train=np.flatnonzero(parts == "train"),
                val=np.flatnonzero(parts == "val"),
                test=np.flatnonzero(parts == "test"),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{changed} ({str(error).rstrip('.')}).") from error
        if split.digest != summary["digest"]:
            raise InputError(f"{changed} (its digest is {split.digest}, not {summary['digest']}).")
        is_whole = split._summary() == summary and (numbers["label"] == split.labels).all()
        if not (is_whole and (numbers["row"] == np.arange(len(lines))).all()):
            raise InputError(
                f"{changed} (its rows, labels or counts do not follow from its classes and parts)."
            )
        return split


def make_split(
    targets: IntArray,
    class_names: Sequence[str],
    *,
    known: Sequence[int],
    unknown: Sequence[int],
    background: Sequence[int] = (),
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> Split:
    """Divide the images of each known class at random; unknown classes go to test, background to train.

    Args:
        targets: (N,) int64 class ids.
        class_names: the name of each class id.
        known: class ids in label order.
        unknown: class ids, all of whose images are tested.
        background: class ids, all of whose images may be shown in training.
        val_fraction: share of each known class for validation, rounded, at least one image.
        test_fraction: share of each known class for the test, rounded, at least one image.
        seed: of the division.

    Raises:
        InputError: a class has no or too few images, or `Split` refuses the groups.
    """
    generator = np.random.default_rng(seed)
    parts: dict[str, list[IntArray]] = {part: [] for part in PARTS}
    # Drawn for every class in order of its id: its division does not depend on the protocol.
    for number, name in enumerate(class_names):
        rows = generator.permutation(np.flatnonzero(targets == number))
        if number in (*known, *unknown, *background) and not len(rows):
            raise InputError(f"split: class {name!r} has no image in the data set.")
        if number in unknown:
            parts["test"].append(rows)
        elif number in background:
            parts["train"].append(rows)
        elif number in known:
            num_val, num_test = (max(1, round(share * len(rows))) for share in (val_fraction, test_fraction))
            if num_val + num_test >= len(rows):
                raise InputError(
                    f"split: known class {name!r} has {len(rows)} images, too few to train, val and test."
                )
            for part, chosen in zip(PARTS[::-1], np.split(rows, [num_test, num_test + num_val]), strict=True):
                parts[part].append(chosen)
    empty = [np.empty(0, dtype=np.int64)]
    train, val, test = (np.sort(np.concatenate(parts[part] or empty)) for part in PARTS)
    return Split(
        targets=targets,
        class_names=tuple(class_names),
        known=tuple(known),
        background=tuple(background),
        unknown=tuple(unknown),
        train=train,
        val=val,
        test=test,
    )
