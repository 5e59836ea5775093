"""Which images train, validate and test: by published parts, and at random where none are published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from osr.errors import InputError
from osr.outputs import IntArray
from osr.splits.leaks import HashArray, cut_group
from osr.splits.split import PARTS, Split

TRAIN, VAL, TEST = range(3)
NONE = -1


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
    background_val_fraction: float = 0.0,
    parts: NDArray[np.str_] | None = None,
    groups: IntArray | None = None,
    hashes: HashArray | None = None,
) -> Split:
    """Divide the images of each known class; unknown classes go to test, background to train and val.

    A published part stays what it is: unknown classes are tested with its test images only, background
    classes shown with its training images only, and what remains of both is in no part.

    Args:
        targets: (N,) int64 class ids.
        class_names: the name of each class id.
        known: class ids in label order.
        unknown: class ids that are only tested.
        background: class ids that may be shown in training.
        val_fraction: share of each known class's images for validation, rounded, at least one image; of its
            training images where a test part is published; without effect where a validation part is.
        test_fraction: the same for the test; without effect where a test part is published.
        seed: of the division.
        background_val_fraction: share of each background class's training images that go to val, rounded, so
            that they are not trained on.
        parts: (N,) text, published part of each image; None where none is published.
        groups: (N,) int64, images of one number stay in one part; shares are met as whole groups can.
        hashes: (N,) uint64 of the pixels, kept in the split.

    Raises:
        InputError: a class has no or too few images, or `Split` refuses the classes or a group.
    """
    published = _codes(parts, len(targets))
    _check_published(published, groups)
    division = _Division(targets, published, groups, {TEST: test_fraction, VAL: val_fraction})
    roles = _Roles(known, background, unknown)
    division.place_published(roles)
    division.draw(_shuffled(targets, len(class_names), seed), class_names, roles, background_val_fraction)
    train, val, test = division.parts()
    return Split(
        targets=targets,
        class_names=tuple(class_names),
        known=tuple(known),
        background=tuple(background),
        unknown=tuple(unknown),
        train=train,
        val=val,
        test=test,
        groups=groups,
        hashes=hashes,
    )


def thinned(split: Split, max_per_class: int, *, seed: int) -> Split:
    """The same split with at most `max_per_class` images of each class in each part, drawn at random.

    What is drawn of a class does not depend on the protocol or on other classes.
    """
    kept: dict[str, IntArray] = {}
    for position, part in enumerate(PARTS):
        rows = split.rows(part)
        chosen = [
            np.random.default_rng([seed, position, int(number)]).permutation(
                rows[split.targets[rows] == number]
            )[:max_per_class]
            for number in np.unique(split.targets[rows])
        ]
        kept[part] = np.sort(np.concatenate(chosen))
    return replace(split, train=kept["train"], val=kept["val"], test=kept["test"])


def without_duplicates(split: Split) -> Split:
    """The same split with each image once: in test before val before train, and known before unknown.

    Raises:
        InputError: a known class is left without images in a part.
    """
    dropped = [row for rows in split.contradictions for row in rows if split.labels[row] < 0]
    for rows in split.duplicates:
        last = max(split.part_codes[rows])
        dropped += [row for row in rows if split.part_codes[row] < last]
    kept = {part: np.setdiff1d(split.rows(part), dropped) for part in PARTS}
    try:
        return replace(split, train=kept["train"], val=kept["val"], test=kept["test"])
    except InputError as error:
        told = str(error).rstrip(".")
        raise InputError(f"{told}, once split.duplicates: drop has taken the copies out.") from error


class _Roles(NamedTuple):
    """Class ids: of known classes in label order, and of the others."""

    known: Sequence[int]
    background: Sequence[int]
    unknown: Sequence[int]


class _Division:
    """The part of every image so far: `codes`, (N,) int64, a position in `PARTS` or NONE.

    Args:
        targets: (N,) int64 class ids.
        published: (N,) int64, published part or NONE.
        groups: (N,) int64 or None.
        shares: of each known class, for the parts that are drawn where none is published.
    """

    def __init__(
        self, targets: IntArray, published: IntArray, groups: IntArray | None, shares: dict[int, float]
    ) -> None:
        self.targets, self.published = targets, published
        self.shares = {part: share for part, share in shares.items() if not (published == part).any()}
        self.has_groups = groups is not None
        self.groups = np.arange(len(targets)) if groups is None else np.unique(groups, return_inverse=True)[1]
        self.codes = np.full(len(targets), NONE, dtype=np.int64)
        self.code_of_group = np.full(len(targets), NONE, dtype=np.int64)

    def parts(self) -> list[IntArray]:
        """Rows of train, val and test."""
        return [np.flatnonzero(self.codes == part) for part in range(len(PARTS))]

    def place_published(self, roles: _Roles) -> None:
        """Put what no share is drawn of into its part."""
        self.place(roles.unknown, TEST, among=(TEST,) if TEST not in self.shares else (NONE, TRAIN, VAL))
        self.place(roles.background, TRAIN, among=(NONE, TRAIN))
        self.place(roles.known, VAL, among=(VAL,))
        self.place(roles.known, TEST, among=(TEST,))

    def draw(
        self, rows_of: Sequence[IntArray], names: Sequence[str], roles: _Roles, background_share: float
    ) -> None:
        """Divide the images of each class, which come in random order.

        Raises:
            InputError: a class has none, or too few.
        """
        for number in roles.background:
            self.hold_out(rows_of[number], background_share)
        for number, (name, rows) in enumerate(zip(names, rows_of, strict=True)):
            if number in (*roles.known, *roles.unknown, *roles.background) and not len(rows):
                raise InputError(f"split: class {name!r} has no image in the data set.")
            if number in roles.unknown and not (self.codes[rows] == TEST).any():
                raise InputError(f"split: unknown class {name!r} has no image in the published test part.")
            if number in roles.known and number not in (*roles.unknown, *roles.background):
                self.divide(rows[self.codes[rows] == NONE], name)

    def place(self, classes: Sequence[int], part: int, *, among: Sequence[int]) -> None:
        """Put the images of `classes` whose published part is `among` into `part`."""
        rows = np.flatnonzero(np.isin(self.targets, classes) & np.isin(self.published, among))
        self.codes[rows] = part
        self.code_of_group[self.groups[rows]] = part

    def hold_out(self, rows: IntArray, share: float) -> None:
        """Move a share of the training images among `rows`, in random order and whole groups, to VAL."""
        rows = rows[self.codes[rows] == TRAIN]
        groups, sizes = _in_order(self.groups[rows])
        moved = groups[: _nearest(sizes, round(share * len(rows)))]
        self.code_of_group[moved] = VAL
        self.codes[np.isin(self.groups, moved) & (self.codes == TRAIN)] = VAL

    def divide(self, rows: IntArray, name: str) -> None:
        """Divide images of one known class, in random order; groups that stand in a part already stay there.

        Raises:
            InputError: a part is left without images.
        """
        groups = self.groups[rows]
        for still_empty, (part, share) in zip((2, 1), self.shares.items(), strict=False):
            have = int((self.code_of_group[groups] == part).sum())
            wanted = max(1, round(share * len(rows))) - have
            open_groups, sizes = _in_order(groups[self.code_of_group[groups] == NONE])
            num_groups = _nearest(sizes, wanted)
            if self.has_groups:
                num_groups = max(0, min(num_groups, len(sizes) - still_empty))
            self.code_of_group[open_groups[:num_groups]] = part
        self.code_of_group[groups[self.code_of_group[groups] == NONE]] = TRAIN
        self.codes[rows] = self.code_of_group[groups]
        if not {TRAIN, *self.shares} <= set(self.codes[rows].tolist()):
            size = f"{len(rows)} images"
            if self.has_groups:
                size += f" in {len(np.unique(groups))} groups"
            raise InputError(f"split: known class {name!r} has {size}, too few to train, val and test.")


def _shuffled(targets: IntArray, num_classes: int, seed: int) -> list[IntArray]:
    """The images of each class, in random order."""
    sizes = np.bincount(targets, minlength=num_classes)
    rows_of = np.split(np.argsort(targets, kind="stable"), np.cumsum(sizes)[:-1])
    generator = np.random.default_rng(seed)
    # Drawn for every class in order of its id: its division does not depend on the protocol.
    return [generator.permutation(rows) for rows in rows_of]


def _in_order(groups: IntArray) -> tuple[IntArray, IntArray]:
    """Different groups in the order in which they first occur, and how often they do."""
    numbers, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    order = np.argsort(first)
    return numbers[order], sizes[order]


def _nearest(sizes: IntArray, wanted: int) -> int:
    """How many of the groups come nearest to `wanted` images together; at least one if any are wanted."""
    if wanted <= 0:
        return 0
    return max(1, int(np.searchsorted(np.cumsum(sizes) - sizes / 2, wanted, side="right")))


def _codes(parts: NDArray[np.str_] | None, num_images: int) -> IntArray:
    codes = np.full(num_images, NONE, dtype=np.int64)
    if parts is not None:
        for code, part in enumerate(PARTS):
            codes[parts == part] = code
    return codes


def _check_published(published: IntArray, groups: IntArray | None) -> None:
    """Refuse a group that the data set itself cuts in two: no division could mend it."""
    cut = None if groups is None else cut_group(groups, published)
    if cut is not None:
        group, first, second = cut
        raise InputError(
            f"split: group {group} stands in the published {PARTS[first]} and {PARTS[second]} part; "
            "one part per group."
        )
