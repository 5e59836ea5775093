"""Which image files belong together, by their paths."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePath

import numpy as np

from osr.data.files import Listing
from osr.data.images import numbered
from osr.errors import InputError

NONE, SUBFOLDER = "none", "subfolder"
KEY = "dataset.group_pattern"


def grouped(listing: Listing, pattern: str, *, class_depth: int | None = None, key: str = KEY) -> Listing:
    """The listing with the groups that `dataset.group_pattern` makes of the paths.

    Args:
        listing: with names relative to `dataset.root`.
        pattern: none; subfolder, images of one sub-folder of a class folder; or a regular expression that is
            searched in each path: paths in which its groups (or all of it, if it has none) match the same
            text belong together.
        class_depth: how many folders stand above the files of a class folder; None without class folders.
        key: what the pattern is called, for errors.

    Raises:
        InputError: a table has groups of its own, or no class folders, or a path does not match.
    """
    if pattern == NONE:
        return listing
    if listing.groups is not None:
        raise InputError(
            f"{key} is {pattern!r}, but dataset.csv.group names a column; set one of them to none."
        )
    paths = [PurePath(name).as_posix() for name in listing.names.tolist()]
    if pattern != SUBFOLDER:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(f"{key} is {pattern!r}, which is no regular expression: {error}.") from None
        return replace(listing, groups=numbered(np.array([_matched(pattern, path, key) for path in paths])))
    if class_depth is None:
        raise InputError(
            f"{key} is {SUBFOLDER!r}, but a csv has no class folders; give a regular expression."
        )
    folders = [PurePath(path).parts[: class_depth + 1] for path in paths]
    if not any(len(PurePath(path).parts) > class_depth + 1 for path in paths):
        raise InputError(f"{key} is {SUBFOLDER!r}, but no class folder has a sub-folder with images.")
    return replace(listing, groups=numbered(np.array(["/".join(parts) for parts in folders])))


def _matched(pattern: str, path: str, key: str) -> str:
    found = re.search(pattern, path)
    if found is None:
        raise InputError(
            f"{key}: {pattern!r} is not found in {path!r}; a pattern must fit every path, and may name "
            "alternatives (a|b)."
        )
    parts = found.groups() or (found[0],)
    return repr([part or "" for part in parts])
