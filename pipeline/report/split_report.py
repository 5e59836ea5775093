"""Command split: what prepare-split made, as text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable

import numpy as np

from osr.data.images import ImageFiles
from osr.splits.openness import openness
from osr.splits.split import PARTS, Split
from pipeline.images import open_images
from pipeline.near_copies import num_near_copies
from pipeline.workspace.stages import CONTACT_SHEET, NEAR_COPIES, NEAR_COPIES_SHEET, ODD_IMAGES, SPLIT

SHOWN = 20  # copies of each kind


def split_report() -> str:
    """Counts per class and part, groups, duplicates and openness of the split on disk.

    Raises:
        InputError: there is no split, or it was changed by hand.
    """
    split = Split.load(SPLIT)
    counts = split.counts()
    width = max(map(len, (*counts, "class")))
    lines = [f"split {split.digest}", _line("class", "role", PARTS, width)]
    for role in ("known", "background", "unknown"):
        for number in getattr(split, role):
            name = split.class_names[number]
            lines.append(_line(name, role, [counts[name][part] for part in PARTS], width))
    lines.append(_line("all", "", [len(split.rows(part)) for part in PARTS], width))
    lines += [f"unknown set {name}: {size} images" for name, size in split.source_counts().items()]
    if split.groups is not None:
        groups = [len(np.unique(split.groups[split.rows(part)])) for part in PARTS]
        lines.append(_line("groups", "", groups, width))
    lines.append(f"images in no part: {int((split.part_codes < 0).sum())}")
    lines += [f"not used, as in no list: {name} ({count} images)" for name, count in split.unlisted.items()]
    lines.append(f"openness: {openness(len(split.known), len(split.unknown)):.3f}")
    place = _places(split)
    lines += _copies("identical images in several parts", split.duplicates, place)
    lines += _copies("identical images tested as known and as unknown", split.contradictions, place)
    lines += _copies("identical images of several classes", split.label_conflicts, place)
    if count := num_near_copies():
        lines.append(
            f"pairs of near-copies in different parts: {count}, in {NEAR_COPIES}, {NEAR_COPIES_SHEET}"
        )
    lines += [f"may be one class: {', '.join(map(repr, names))}" for names in split.similar_names]
    if ODD_IMAGES.is_file():
        lines.append(f"files that were converted, skipped or passed over: {ODD_IMAGES}")
    lines.append(f"images to look at: {CONTACT_SHEET}")
    return "\n".join(lines) + "\n"


def _copies(title: str, copies: list[list[int]], place: Callable[[int], str]) -> list[str]:
    return [f"{title}: {len(copies)}"] + ["  " + ", ".join(map(place, rows)) for rows in copies[:SHOWN]]


def _places(split: Split) -> Callable[[int], str]:
    """What says of a row where it stands, and its file if it has one."""
    images = open_images(SPLIT)

    def place(row: int) -> str:
        name = f": {images.names[row]}" if isinstance(images, ImageFiles) else ""
        return f"row {row} ({PARTS[split.part_codes[row]]}, {split.class_names[split.targets[row]]}{name})"

    return place


def _line(name: str, role: str, numbers: Iterable[object], width: int) -> str:
    cells = "".join(f"{number!s:>9}" for number in numbers)
    return f"{name:<{width}}  {role:<10}{cells}"


def run(_options: argparse.Namespace) -> int:
    """Print the report.

    Raises:
        InputError: there is no split, or it was changed by hand.
    """
    sys.stdout.write(split_report())
    return 0
