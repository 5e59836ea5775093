"""Command init: look at photos, say what they are, and lay down a project that trains on them."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from osr.errors import InputError
from osr.params import Params, check_params
from osr.settings.reading import read_yaml
from osr.splits.names import is_verdict
from pipeline.experiments.named import read_named
from pipeline.experiments.overrides import merge
from pipeline.starting.files import (
    check_place,
    start_repositories,
    whole_project,
    write_others,
    write_settings,
    write_stages,
    write_table,
)
from pipeline.starting.look import look_at
from pipeline.starting.settings import (
    TINY,
    dataset_of,
    fitted,
    group_pattern,
    is_flat,
    root_of,
    split_of,
    unknown_source,
    weights_setting,
)
from pipeline.starting.words import found_text, laid_down_text, readme_text
from pipeline.workspace.shipped import shipped
from pipeline.workspace.stages import PARAMS

PRESET = "photos_probe"
TABLE = "unknown.csv"


def run(options: argparse.Namespace) -> int:
    """Look, tell, and write.

    Raises:
        InputError: no such images, too few classes, a place that is not empty, or a preset that does not fit.
    """
    photos, project = options.photos.resolve(), options.project.resolve()
    unknown = None if options.unknown is None else options.unknown.resolve()
    _check(photos, unknown, project)
    ours = read_yaml(shipped(PARAMS.name))
    root = root_of(photos, unknown)
    changes: dict[str, Any] = {"dataset": {**dataset_of(photos, root), "on_bad_image": "skip"}}
    weights = _weights(options)
    for name in options.preset or ():
        _preset(name)  # here, where a wrong name costs no look at the photos
    found = look_at(check_params(merge(ours, changes), source="osr init").dataset)
    _refuse_unknown_as_class(photos, found.counts)
    pattern = group_pattern(found, photos, asked=options.groups)
    split, small = split_of(found)
    if len(found.counts) - len(small) < 2:
        raise InputError(
            f"{photos} has no two classes with at least 3 images; there is nothing to tell apart."
        )
    if pattern is not None:
        changes["dataset"]["group_pattern"] = pattern
    sys.stdout.write(found_text(photos, found, small, pattern))
    sys.stdout.flush()
    presets = options.preset or ([PRESET] if found.short_side > TINY and options.weights != "none" else [])
    for name in presets:
        changes = merge(changes, _preset(name))
    changes = merge(changes, {"split": split, **weights})
    if unknown is not None:
        changes["dataset"]["unknown_sources"] = [unknown_source(unknown, root, project / TABLE)]
    fits = fitted(found, merge(ours, changes), num_cores=os.cpu_count() or 1)
    changes = merge(changes, fits)
    params = check_params(merge(ours, changes), source="osr init")
    if options.backbone or options.weights:
        _check_network(params, found.short_side)
    with whole_project(project):
        with tempfile.TemporaryDirectory() as held:
            aside = Path(held)
            if unknown is not None and is_flat(unknown):
                write_table(aside / TABLE, unknown)
            write_settings(aside, changes)
            watched = [photos, *([unknown] if unknown else [])]
            held_weights = params.model.backbone.weights
            write_stages(aside, watched, weights=held_weights, has_unknowns=unknown is not None)
            write_others(aside, readme_text(photos, params))
            for file in sorted(aside.iterdir()):
                shutil.copyfile(file, project / file.name)
        made = start_repositories(project)
    sys.stdout.write(laid_down_text(project, params, presets, made))
    return 0


def _preset(name: str) -> Any:
    """What a preset of osr changes.

    Raises:
        InputError: no such preset.
    """
    return read_named(shipped(f"presets/{PRESET}.yaml").parent, name, kind="preset")[1]


def _refuse_unknown_as_class(photos: Path, names: Iterable[str]) -> None:
    for name in names:
        if is_verdict(name):
            raise InputError(
                f"{photos} has a class {name!r}, which is the verdict on images that no class fits: move "
                f"these to a folder beside {photos.name} and give it as --unknown, or rename the class."
            )


def _check(photos: Path, unknown: Path | None, project: Path) -> None:
    check_place(project)
    if unknown is not None and (photos.suffix == ".npz") != (unknown.suffix == ".npz"):
        raise InputError(
            f"{unknown} must be a .npz where the images are one, and files where they are files."
        )
    if unknown is not None and (unknown.is_relative_to(photos) or photos.is_relative_to(unknown)):
        raise InputError(f"--unknown {unknown} and {photos} hold the same images, which cannot be both.")
    for path in (photos, *([] if unknown is None else [unknown])):
        if not path.exists():
            raise InputError(f"{path} does not exist; name a folder of class folders, a .csv or a .npz.")
        if path.is_file() and path.suffix.lower() not in (".csv", ".npz"):
            raise InputError(f"{path} is neither a folder of class folders nor a .csv or .npz.")
        if project == path or project.is_relative_to(path):
            raise InputError(f"{project} lies in {path}, whose images it would become; choose another place.")


def _weights(options: argparse.Namespace) -> dict[str, Any]:
    """Backbone and weights of the command line, for machines that cannot fetch any.

    Raises:
        InputError: no such file of weights.
    """
    given = {
        key: value
        for key, value in (("name", options.backbone), ("weights", options.weights))
        if value is not None
    }
    if options.weights is not None:
        given["weights"] = weights_setting(options.weights)
    return {"model": {"backbone": given}} if given else {}


def _check_network(params: Params, side: int) -> None:
    """Build the network that was named, so that a wrong name or file is refused at once.

    Args:
        params: of the project.
        side: pixels of the images, where `image_size` is auto.

    Raises:
        InputError: no such network, or weights that do not fit it.
    """
    backbone, size = params.model.backbone, params.model.image_size
    sys.stdout.write(f"  trying whether {backbone.name} can be built with weights {backbone.weights}\n")
    sys.stdout.flush()
    from osr.models.backbones import build_backbone  # PyTorch, which init does without otherwise

    build_backbone(
        backbone.name,
        weights="none" if backbone.weights == "pretrained" else backbone.weights,
        channels=3,
        image_size=side if size == "auto" else size,
        classifier=backbone.classifier,
        options=backbone.options,
    )
