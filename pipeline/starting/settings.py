"""Which settings fit what was found, as changes to the shipped params.yaml."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

from osr.errors import InputError
from osr.settings.sentences import listed
from osr.splits.rules import HELD_OUT
from pipeline.starting.look import Found

Changes = dict[str, Any]

SHOWN = 4  # names of folders
FEWEST_IMAGES = 3  # of a class: one to train on, one to validate, one to test
TINY = 16  # pixels: below, photos are none, and the shipped settings, made for such images, stay
CLASS_FOLDERS = "folder"
FROM_SCRATCH = 64  # pixels that a network without trained weights looks at photos in
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
    called = re.sub(r"[^A-Za-z0-9_+-]+", "_", path.stem).strip("_")
    source = called if called not in ("", HELD_OUT) else "unknown"
    if is_flat(path):
        return {"source": source, "name": "csv", "csv": {"file": str(table)}}
    own = dataset_of(path, root)
    del own["root"]
    return {"source": source, **own}


def is_flat(path: Path) -> bool:
    """Whether images stand in the folder itself, not in class folders."""
    return path.is_dir() and not any(entry.is_dir() and entry.name[0] != "." for entry in path.iterdir())


def group_pattern(found: Found, photos: Path, *, asked: bool | None) -> str | None:
    """`dataset.group_pattern` for photos that belong together; None where nothing keeps them together.

    These are the folders within classes, if `asked` says so, or photos whose names look like groups, of which
    each class has enough.

    Args:
        found: in the photos.
        photos: their folder.
        asked: what the command line says of groups; None if nothing.

    Raises:
        InputError: classes hold folders of images, and nothing says whether these are groups; or groups are
            asked for where there are none.
    """
    if found.deeper and not found.has_parts:
        return _folders_as_groups(found, photos, asked=asked)
    if found.has_groups or asked is False:
        return None
    if found.groups is not None and found.groups.fewest >= FEWEST_GROUPS:
        return BEFORE_LAST_NUMBER
    if asked:
        raise InputError(
            f"--groups: the photos in {photos} look like no groups, by name or folder, of which each class "
            f"has at least {FEWEST_GROUPS}; dataset.group_pattern can name others."
        )
    return None


def _folders_as_groups(found: Found, photos: Path, *, asked: bool | None) -> str | None:
    holder = next(iter(found.deeper))
    if asked is None:
        folders = listed(found.deeper[holder], SHOWN)
        raise InputError(
            f"{photos / holder} holds its images in folders ({folders}). If these are the classes: `osr init "
            f"{shlex.quote(str(photos / holder))}`. If {holder!r} is a class: --groups where the images of a "
            "folder belong together, such as those of one object, and --no-groups where they do not."
        )
    if not asked:
        return None
    for name, count in found.counts.items():
        if (number := len(found.deeper.get(name, ()))) < FEWEST_GROUPS:
            raise InputError(
                f"--groups: {photos / name} has {count:,} images in {number} folders of its own, but needs "
                f"all in at least {FEWEST_GROUPS}: training, validation and test get whole folders."
            )
    return "subfolder"


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
    size = model["image_size"]
    if size == "auto" and model["backbone"]["weights"] == "none" and found.short_side > TINY:
        size = FROM_SCRATCH  # files have many sizes, and no trained weights name one
        changes["model"] = {"image_size": size}
    if isinstance(size, int) and found.short_side < size:
        # Enlarging shows nothing new: the next multiple of 32, the least step of the trained networks.
        changes["model"] = {"image_size": min(size, max(64, -(-found.short_side // 32) * 32))}
    share = 1 - settings["split"]["val_fraction"] - settings["split"]["test_fraction"]
    trained_on = [int(share * count) for count in found.counts.values() if count >= FEWEST_IMAGES]
    held, detectors = settings["detectors"], {}
    if min(trained_on) < 2 * held["openmax"]["tail_size"]:  # of images classified right
        detectors["openmax"] = {"tail_size": max(3, min(trained_on) // 4)}
    if sum(trained_on) < 10 * held["knn"]["num_neighbors"]:
        detectors["knn"] = {"num_neighbors": max(1, sum(trained_on) // 10)}
    if detectors:
        changes["detectors"] = detectors
    return changes
