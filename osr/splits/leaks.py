"""Ways in which a test can leak: a group cut in two, a copy of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osr.outputs import IntArray

HashArray = NDArray[np.uint64]


def cut_group(groups: IntArray, codes: IntArray) -> tuple[int, int, int] | None:
    """A group that stands in two parts, and these parts; None if there is none.

    Args:
        groups: (N,) int64, the group of each image.
        codes: (N,) int64, the part of each image; negative for an image in no part.
    """
    rows = np.flatnonzero(codes >= 0)
    members = np.unique(np.stack([groups[rows], codes[rows]], axis=1), axis=0)
    cut = np.flatnonzero(np.diff(members[:, 0]) == 0)
    if not len(cut):
        return None
    (group, first), (_, second) = members[cut[0]].tolist(), members[cut[0] + 1].tolist()
    return group, first, second


def repeated_images(hashes: HashArray, codes: IntArray) -> list[list[int]]:
    """Rows of identical images that stand in more than one part: one list per image, in order of rows.

    Args:
        hashes: (N,) uint64, equal for identical images.
        codes: (N,) int64, the part of each image; negative for an image in no part.
    """
    rows = np.flatnonzero(codes >= 0)
    if not len(rows):
        return []
    rows = rows[np.argsort(hashes[rows], kind="stable")]
    starts = np.flatnonzero(np.r_[True, np.diff(hashes[rows]) != 0])
    ends = np.append(starts[1:], len(rows))
    lowest, highest = (reduce.reduceat(codes[rows], starts) for reduce in (np.minimum, np.maximum))
    return sorted(rows[starts[i] : ends[i]].tolist() for i in np.flatnonzero(lowest < highest))
