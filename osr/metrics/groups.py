"""Images that belong together, such as frames of a track: they are drawn together, or not at all.

Between groups images are independent, inside one they may say the same thing again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from osr.errors import InputError
from osr.metrics.conformal import equal_shares as equal_shares
from osr.outputs import IntArray, Outputs
from osr.splits.split import Split


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of every test image; a group may hold known and unknown images.

    Args:
        known: (n_K,) integers, the group of each known image.
        unknown: (n_U,) integers, the group of each unknown image; n_U may be 0, and then nothing is drawn.

    Raises:
        InputError: not two vectors of integers, or no known image.
    """

    known: IntArray
    unknown: IntArray

    def __post_init__(self) -> None:
        for part in (self.known, self.unknown):
            is_empty = part is self.known and not len(part)
            if part.ndim != 1 or is_empty or part.dtype.kind not in "iu":
                raise InputError(f"Groups must be vectors of integers, not {part.dtype} of {part.shape}.")

    @classmethod
    def of(cls, groups: IntArray | None, labels: IntArray) -> Self | None:
        """From the group (N,) and the label (N,) of known and unknown images; None without groups."""
        return None if groups is None else cls(groups[labels >= 0], groups[labels < 0])

    def check_sizes(self, num_known: int, num_unknown: int) -> None:
        """Refuse scores of other images.

        Raises:
            InputError: not as many known or unknown images as groups were given for.
        """
        if (len(self.known), len(self.unknown)) != (num_known, num_unknown):
            raise InputError(
                f"The groups are of {len(self.known)} known and {len(self.unknown)} unknown images, but "
                f"there are scores of {num_known} and {num_unknown}."
            )

    @cached_property
    def codes(self) -> tuple[IntArray, IntArray]:
        """Known (n_K,) and unknown (n_U,) groups, numbered from 0 without gaps."""
        codes = np.unique(np.concatenate((self.known, self.unknown)), return_inverse=True)[1]
        return codes[: len(self.known)], codes[len(self.known) :]

    @cached_property
    def sizes(self) -> tuple[IntArray, IntArray]:
        """Known and unknown images in each of the G groups, (G,) each."""
        known, unknown = self.codes
        count = 1 + int(max(known.max(), unknown.max(initial=0)))
        return np.bincount(known, minlength=count), np.bincount(unknown, minlength=count)

    @property
    def counts(self) -> tuple[int, int]:
        """How many groups the known and the unknown images stand in."""
        known, unknown = (int(np.count_nonzero(sizes)) for sizes in self.sizes)
        return known, unknown

    @property
    def units(self) -> tuple[float, float]:
        """Effective number of groups, (sum n)^2 / sum n^2 (Kish 1965), of known and of unknown images."""
        known, unknown = (
            float(sizes.sum() ** 2 / (sizes**2).sum()) if sizes.any() else 0.0 for sizes in self.sizes
        )
        return known, unknown

    @cached_property
    def _strata(self) -> list[IntArray]:
        """The groups with known images alone, with unknown ones alone, and with both."""
        has_known, has_unknown = (sizes > 0 for sizes in self.sizes)
        kinds = (has_known & ~has_unknown, has_unknown & ~has_known, has_known & has_unknown)
        return [np.flatnonzero(kind) for kind in kinds if kind.any()]

    @cached_property
    def _members(self) -> tuple[IntArray, IntArray]:
        """Rows of known and of unknown images, group after group."""
        known, unknown = (np.argsort(codes, kind="stable") for codes in self.codes)
        return known, unknown

    def draw(self, seed: np.random.SeedSequence) -> tuple[IntArray, IntArray]:
        """Rows of the known and of the unknown images of one replicate: whole groups, with replacement.

        As many groups of known images, of unknown ones and of both as there are, so that neither side is
        ever empty; the number of images varies as the groups' sizes do.
        """
        generator = np.random.default_rng(seed)
        drawn = np.concatenate([kind[generator.integers(len(kind), size=len(kind))] for kind in self._strata])
        known, unknown = (
            members[_runs((np.cumsum(sizes) - sizes)[drawn], sizes[drawn])]
            for members, sizes in zip(self._members, self.sizes, strict=True)
        )
        return known, unknown


def _runs(starts: IntArray, sizes: IntArray) -> IntArray:
    """The numbers start .. start + size - 1 of every run, one after the other."""
    before = np.cumsum(sizes) - sizes
    return np.asarray(np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes), dtype=np.int64)


def groups_of(split: Split, outputs: Outputs) -> IntArray | None:
    """(N,) int64, the group of each image, in the order of the outputs; None where there are no groups."""
    return None if split.groups is None else np.asarray(split.groups[outputs.index], dtype=np.int64)
