"""What is doubtful in a split, one sentence each: stage prepare-split tells it, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from osr.errors import InputError
from osr.settings.sentences import listed
from osr.splits.rules import HELD_OUT
from osr.splits.settings import SplitSettings
from osr.splits.split import Split
from osr.stored.files import read_plain_json
from pipeline.workspace.stages import NEAR_COPIES_SHEET, SPLIT


def split_cautions(split: Split, settings: SplitSettings, *, num_near_copies: int) -> list[str]:
    """On copies, labels that contradict each other, and classes that no list names or that may be one.

    Args:
        split: that was made.
        settings: the section `split` that it was made by.
        num_near_copies: pairs of images in different parts that are nearly the same.
    """
    return [*_unlisted(split, settings), *_copies(split, num_near_copies), *_similar_names(split)]


def changed_classes(earlier: Path, class_names: Sequence[str]) -> list[str]:
    """What to say where some classes of the split so far are gone: they may have been renamed, or lost.

    Args:
        earlier: the folder of the split so far.
        class_names: of the data set now.
    """
    file = earlier / "split.json"
    if not file.is_file():
        return []
    try:
        said = read_plain_json(file)
        names, sources = said["class_names"], said.get("sources")
        had = {name for number, name in enumerate(names) if sources is None or sources[number] == HELD_OUT}
    except (InputError, KeyError, TypeError, IndexError):
        return []  # it is about to be replaced
    gone, come = sorted(had - set(class_names)), sorted(set(class_names) - had)
    if not gone or len(gone) == len(had):  # another data set has other classes
        return []
    new = f", and has {listed(come)} instead" if come else ""
    return [f"The data set no longer has images of {listed(gone)}{new}: in the run before it was otherwise."]


def _unlisted(split: Split, settings: SplitSettings) -> list[str]:
    """Classes that explicit lists forget; published protocols leave classes out on purpose."""
    if settings.protocol != "explicit" or not split.unlisted:
        return []
    names = [f"{name} ({count:,})" for name, count in split.unlisted.items()]
    return [
        f"Classes whose images are not used, as neither split.known nor another list names them: "
        f"{listed(names)}. Name them there; split.known: [] means all that are in no other list."
    ]


def _copies(split: Split, num_near_copies: int) -> list[str]:
    told = f"{SPLIT / 'split.json'} lists them; split.duplicates: drop takes them out."
    found = []
    if split.duplicates:
        found.append(
            f"Identical images in several parts: {len(split.duplicates):,}, so copies of test images may "
            f"have been trained on. {told}"
        )
    if split.contradictions:
        found.append(
            f"Identical images tested both as known and as unknown: {len(split.contradictions):,}, which no "
            f"detector can tell apart. {told}"
        )
    if num_near_copies:
        found.append(
            f"Pairs of images in different parts that are nearly the same: {num_near_copies:,}, so copies of "
            f"test images may have been trained on. {NEAR_COPIES_SHEET} shows them."
        )
    if split.label_conflicts:
        found.append(
            f"Identical images of several classes: {len(split.label_conflicts):,}, of which at most one "
            f"label is right. {SPLIT / 'split.json'} lists them as label_conflicts."
        )
    return found


def _similar_names(split: Split) -> list[str]:
    pairs = [" and ".join(map(repr, names)) for names in split.similar_names]
    return [f"Classes that may be one, by their names: {listed(pairs)}."] if pairs else []
