"""Stage prepare-split: choose the classes, divide the images, refuse leaks."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from osr.data.contact_sheet import contact_sheet
from osr.data.datasets import load_images
from osr.data.hashes import hashes_of
from osr.data.images import ImageSet
from osr.data.near_copies import near_copies
from osr.data.reading import BadImageError
from osr.data.unknown_sources import add_sources, load_known_sources, load_sources
from osr.errors import InputError
from osr.outputs import IntArray
from osr.params import Params
from osr.splits.classes import choose_classes
from osr.splits.division import make_split, thinned, without_duplicates
from osr.splits.openness import openness
from osr.splits.split import PARTS, Split
from pipeline.entry import Metrics, run_stage
from pipeline.images import odd_images, open_images, save_images, save_known_source, write_odd
from pipeline.near_copies import write_near_copies
from pipeline.split_cautions import changed_classes, split_cautions
from pipeline.tracking.stage_run import Row
from pipeline.workspace.place import workspace_root
from pipeline.workspace.stages import BAD_IMAGES, CONTACT_SHEET, KNOWN_SOURCES, SPLIT
from pipeline.workspace.swap import new

logger = logging.getLogger("osr")


def prepare_split(params: Params, _row: Row) -> Metrics:
    """Write the images, the manifest and the split; return counts."""
    data, sources = load(params)
    logger.info("prepare-split: %s images of %d classes", f"{len(data.targets):,}", len(data.class_names))
    for caution in changed_classes(SPLIT, data.class_names):
        logger.warning("prepare-split: %s", caution)
    split = divide(data, params, sources)
    # What the detectors need is no param of this stage: it stops a run in vain, as stage train does.
    params.check_training_images(split.training_counts())
    folder = new(SPLIT)
    folder.mkdir(parents=True, exist_ok=True)
    root, max_pixels = params.dataset.root, params.dataset.max_pixels
    save_images([data, *sources.values()], folder, root=root, max_pixels=max_pixels)
    split.save(folder)
    shifted = load_shifted(params, data, split)
    for name, (source, labels) in shifted.items():
        kept = folder / KNOWN_SOURCES.name / name
        save_known_source(source, labels, kept, root=root, max_pixels=max_pixels)
    images = open_images(folder)
    contact_sheet(images, split).save(new(CONTACT_SHEET))
    pairs = near_copies(images, split.part_codes, split.hashes)
    write_near_copies(pairs, images, split)
    for caution in split_cautions(split, params.split, num_near_copies=len(pairs)):
        logger.warning("prepare-split: %s", caution)
    counts = {part: len(split.rows(part)) for part in PARTS}
    unknown_test = int((split.labels[split.test] < 0).sum())
    return {
        "images": {**counts, "test_known": counts["test"] - unknown_test, "test_unknown": unknown_test},
        **({"unknown_sources": split.source_counts()} if sources else {}),
        **({"known_sources": counts_of(shifted, split)} if shifted else {}),
        "classes": {"known": len(split.known), "unknown": len(split.unknown)},
        "openness": openness(len(split.known), len(split.unknown)),
        "duplicates": len(split.duplicates),
        "contradictions": len(split.contradictions),
        "label_conflicts": len(split.label_conflicts),
        "near_copies": len(pairs),
        **odd_images([data, *sources.values()]),
    }


def load(params: Params) -> tuple[ImageSet, dict[str, ImageSet]]:
    """The images of the main data set and of every unknown source.

    Raises:
        InputError: a data set cannot be read; where files of it are damaged, `BAD_IMAGES` lists them all.
    """
    dataset = params.dataset.model_copy(update={"root": str(workspace_root() / params.dataset.root)})
    bad_images = workspace_root() / BAD_IMAGES
    bad_images.unlink(missing_ok=True)
    try:
        data = load_images(dataset)
        return data, load_sources(dataset, load_images, like=data)
    except BadImageError as error:
        write_odd(bad_images, error.odd)
        raise InputError(f"{error}\n{bad_images} lists them all.") from error


def load_shifted(params: Params, data: ImageSet, split: Split) -> dict[str, tuple[ImageSet, IntArray]]:
    """The images of every known source and their labels.

    Raises:
        InputError: a source cannot be read, or has no image of a known class.
    """
    dataset = params.dataset.model_copy(update={"root": str(workspace_root() / params.dataset.root)})
    return load_known_sources(dataset, load_images, like=data, known_names=split.known_names)


def counts_of(sources: Mapping[str, tuple[ImageSet, IntArray]], split: Split) -> dict[str, dict[str, int]]:
    """Images of each known source, and how many of them are copies of training images, pixel by pixel."""
    trained = np.empty(0, np.uint64) if split.hashes is None else split.hashes[split.train]
    return {
        name: {"images": len(labels), "trained_on": int(np.isin(hashes_of(data), trained).sum())}
        for name, (data, labels) in sources.items()
    }


def divide(data: ImageSet, params: Params, sources: Mapping[str, ImageSet] | None = None) -> Split:
    """The split of `data` that the settings ask for, and the unknown images of other data sets behind it.

    Raises:
        InputError: classes or images do not fit the settings, or images stand in two places where
            `split.duplicates` is error.
    """
    settings = params.split
    classes = choose_classes(
        settings, params.dataset.name, data.class_names, has_other_unknowns=bool(sources)
    )
    split = make_split(
        data.targets,
        data.class_names,
        known=classes.known,
        background=classes.background,
        unknown=classes.unknown,
        val_fraction=settings.val_fraction,
        test_fraction=settings.test_fraction,
        background_val_fraction=settings.background_val_fraction,
        seed=settings.seed,
        parts=data.parts,
        groups=data.groups,
        hashes=hashes_of(data),
    )
    split = add_sources(split, sources or {})
    if settings.duplicates == "error":
        _refuse_copies(split)
    if settings.duplicates == "drop":
        split = without_duplicates(split)
    if settings.max_per_class == "none":
        return split
    return thinned(split, settings.max_per_class, seed=settings.seed)


def _refuse_copies(split: Split) -> None:
    found = {
        "stand in several parts": split.duplicates,
        "are tested both as known and as unknown": split.contradictions,
    }
    for problem, copies in found.items():
        if copies:
            raise InputError(
                f"split: {len(copies)} of the images {problem}, the first as rows "
                f"{', '.join(map(str, copies[0]))}; split.duplicates: drop leaves each in one place."
            )
    if split.label_conflicts:
        rows = ", ".join(map(str, split.label_conflicts[0]))
        raise InputError(
            f"split: {len(split.label_conflicts)} of the images stand in several classes, the first as rows "
            f"{rows}; keep each under its right label."
        )


if __name__ == "__main__":
    run_stage("prepare-split", prepare_split, __doc__)
