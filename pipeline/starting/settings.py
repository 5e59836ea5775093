"""Which settings fit what was found, as changes to the shipped params.yaml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from osr.errors import InputError
from pipeline.starting.look import Found

Changes = dict[str, Any]

FEWEST_IMAGES = 3  # of a class: one to train on, one to validate, one to test
TINY = 16  # pixels: below, photos are none, and the shipped settings, made for such images, stay
CLASS_FOLDERS, UNKNOWN_SOURCE = "folder", "own"
FEWEST_GROUPS = 4  # of a class, so that each part gets one and training more
# Of a path all but its last number: 00007_00012.jpg and 00007_00013.jpg belong together.
BEFORE_LAST_NUMBER = r"(?s)^(.*?)[\s_.-]*\d*\.[^./]+$"


def root_of(photos: Path, unknown: Path | None) -> Path:
    """The folder that `dataset.root` is to be: above the images, and above the unknown ones, too."""
    return photos.parent if unknown is None else Path(os.path.commonpath([photos.parent, unknown]))


def dataset_of(path: Path, root_path: Path) -> Changes:
    """The section `dataset` that reads a folder of class folders, a .csv or a .npz in `dataset.root`."""
    root, name = str(root_path), path.relative_to(root_path).as_posix()
    if path.suffix.lower() == ".csv":
        return {"name": "csv", "root": root, "csv": {"file": name}}
    if path.suffix.lower() == ".npz":
        return {"name": "arrays", "root": root, "arrays": {"file": name}}
    return {"name": CLASS_FOLDERS, "root": root, "folder": name}


def weights_setting(given: str) -> str:
    """`model.backbone.weights` as a command line names it: `none`, `pretrained`, or the whole path of a file.

    Raises:
        InputError: no such file.
    """
    if given in ("none", "pretrained"):
        return given
    if not Path(given).is_file():
        raise InputError(f"--weights {given}: no such file; or pretrained, or none.")
    return str(Path(given).resolve())


def unknown_source(path: Path, root: Path, table: Path) -> Changes:
    """An entry of `dataset.unknown_sources`: a folder of class folders, or the table of a flat one.

    Args:
        path: absolute, of the folder, .csv or .npz.
        root: as `root_of` gives it.
        table: absolute, where `write_table` writes the images of a flat folder.
    """
    if is_flat(path):
        return {"source": UNKNOWN_SOURCE, "name": "csv", "csv": {"file": str(table)}}
    own = dataset_of(path, root)
    del own["root"]
    return {"source": UNKNOWN_SOURCE, **own}


def is_flat(path: Path) -> bool:
    """Whether images stand in the folder itself, not in class folders."""
    return path.is_dir() and not any(entry.is_dir() and entry.name[0] != "." for entry in path.iterdir())


def keeps_groups(found: Found, *, asked: bool) -> bool:
    """Whether photos whose names look like groups stay together: where they do, and each class has enough."""
    return (
        asked and found.groups is not None and not found.has_groups and found.groups.fewest >= FEWEST_GROUPS
    )


def split_of(found: Found) -> tuple[Changes, list[str]]:
    """All classes known, but those with too few images, which are named."""
    small = [name for name, count in found.counts.items() if count < FEWEST_IMAGES]
    known = [name for name in found.counts if name not in small] if small else []
    return {"protocol": "explicit", "known": known, "background": [], "unknown": []}, small


def fitted(found: Found, settings: Changes, *, num_cores: int) -> Changes:
    """What depends on the images, on top of a preset.

    Args:
        found: in the data set.
        settings: params.yaml with the preset in it.
        num_cores: of this machine.
    """
    # One thread is as fast for tiny images, and then weights do not depend on the number of cores.
    threads = 1 if found.short_side <= TINY else "auto"
    model, train = settings["model"], {"num_workers": max(1, min(num_cores, 8)), "cpu_threads": threads}
    changes: Changes = {"train": train}
    if isinstance(model["image_size"], int) and found.short_side < model["image_size"]:
        # Enlarging shows nothing new: the next multiple of 32, the least step of the trained networks.
        changes["model"] = {"image_size": max(64, -(-found.short_side // 32) * 32)}
    share = 1 - settings["split"]["val_fraction"] - settings["split"]["test_fraction"]
    trained_on = [int(share * count) for count in found.counts.values() if count >= FEWEST_IMAGES]
    held, detectors = settings["detectors"], {}
    if min(trained_on) < held["openmax"]["tail_size"]:  # for the day it is enabled
        detectors["openmax"] = {"tail_size": max(3, min(trained_on))}
    if sum(trained_on) < 10 * held["knn"]["num_neighbors"]:
        detectors["knn"] = {"num_neighbors": max(1, sum(trained_on) // 10)}
    if detectors:
        changes["detectors"] = detectors
    return changes
