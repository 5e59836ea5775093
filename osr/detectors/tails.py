"""The images of each class that lie furthest from its mean; tails of shards merge, though the mean moves."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from osr.detectors.chunks import Images
from osr.detectors.classes import gather_classes, taken
from osr.detectors.distances import EUCOS_DIVISOR, distance_to, lengths, unit
from osr.detectors.settings import Distance
from osr.settings.base import Space

# Bytes of images that a shard keeps, for the case that the mean of all shards puts others into the tail than
# its own mean; and how many times the tail it keeps at least.
_BYTES = 256 << 20
_TIMES = 4
_ROWS = 4096  # whose distances are taken at once


class Tails(NamedTuple):
    """Images of each class with the largest distances to the mean of their class.

    Args:
        sums: of each class, (K, D) float64.
        counts: images of each class, (K,) int64.
        distances: of the M images that are kept, (M,) float64.
        labels: of these, (M,) int64.
        values: of these, (M, D) float32; (0, D) where nothing is to be merged.
        reach: no image of the class that was left out lies further from the mean than this, (K,) float64;
            -inf where none was.
        kept: how many images of a class stay at most.
        distance: as in `distance_to`.
    """

    sums: Tensor
    counts: Tensor
    distances: Tensor
    labels: Tensor
    values: Tensor
    reach: Tensor
    kept: int
    distance: Distance

    @classmethod
    def of(
        cls, images: Images, space: Space, *, distance: Distance, correct_only: bool, tail: int, alone: bool
    ) -> Self:
        """Of the images that count.

        Args:
            images: known training images.
            space: distances of features or of logits.
            distance: which.
            correct_only: only images whose predicted class is their label.
            tail: how many of a class are asked for in the end.
            alone: whether these are all images there are.
        """
        sums, counts = gather_classes(images, space, correct_only=correct_only).values()
        kept = tail if alone else max(_TIMES * tail, _BYTES // (4 * sums.numel()))
        means = sums / counts.clamp_min(1)[:, None]
        values, sizes = [means[:0].float()], list[int]()
        # Made before the chunks: what is made between them keeps glibc from using their memory again.
        distances, labels = means.new_empty(int(counts.sum())), counts.new_empty(int(counts.sum()))
        for batch in images.batches():
            found, classes = taken(batch, space, correct_only=correct_only)
            here = slice(sum(sizes), sum(sizes) + len(classes))
            distances[here], labels[here] = distance_to(found.double(), means, classes, distance), classes
            sizes.append(len(classes))
        reach = torch.full_like(sums[:, 0], -torch.inf)
        whole = cls(sums, counts, distances, labels, values[0], reach, kept, distance)
        stay = whole._furthest()
        if not alone:
            parts = torch.split(stay, sizes)
            for batch, rows in zip(images.batches(), parts, strict=True):
                values.append(taken(batch, space, correct_only=correct_only)[0][rows])
        return whole._replace(values=torch.cat(values))._only(stay)

    @property
    def means(self) -> Tensor:
        """(K, D) float64; 0 for a class without images."""
        return self.sums / self.counts.clamp_min(1)[:, None]

    def merge(self, other: Tails) -> Tails:
        """Those of both sets of images, `reach` as far as it may be."""
        sums, counts = self.sums + other.sums, self.counts + other.counts
        means = sums / counts.clamp_min(1)[:, None]
        labels, values = torch.cat([self.labels, other.labels]), torch.cat([self.values, other.values])
        distances = [
            distance_to(part.double(), means, classes, self.distance)
            for part, classes in zip(torch.split(values, _ROWS), torch.split(labels, _ROWS), strict=True)
        ]
        reach = torch.maximum(self._moved(means), other._moved(means))
        both = Tails(sums, counts, torch.cat(distances), labels, values, reach, self.kept, self.distance)
        stay = both._furthest()
        return both._replace(values=values[stay])._only(stay)

    def _furthest(self) -> Tensor:
        """(M,) bool, the `kept` images of each class with the largest distances."""
        order = self.distances.argsort(stable=True)
        order = order[self.labels[order].argsort(stable=True)]
        classes = self.labels[order]
        ends = torch.bincount(classes, minlength=len(self.counts)).cumsum(0)
        from_end = ends[classes] - torch.arange(len(order), device=order.device)
        return torch.zeros_like(self.labels, dtype=torch.bool).index_fill_(
            0, order[from_end <= self.kept], True
        )

    def _only(self, stay: Tensor) -> Self:
        """The same without the others, which `reach` then knows of; `values` are those already."""
        reach = self.reach.scatter_reduce(0, self.labels[~stay], self.distances[~stay], "amax")
        return self._replace(distances=self.distances[stay], labels=self.labels[stay], reach=reach)

    def _moved(self, means: Tensor) -> Tensor:
        """`reach` from other means: what the triangle inequality allows.

        1 - cos is half the square of a euclidean distance, that of vectors of length 1.
        """
        straight = lengths(means - self.means)
        turned = lengths(unit(means) - unit(self.means))
        by_angle = (2 * self.reach.clamp_min(0)).sqrt() * turned + turned.square() / 2
        added = {
            "euclidean": straight,
            "cosine": by_angle,
            "eucos": straight / EUCOS_DIVISOR + by_angle,
        }
        return self.reach + added[self.distance]
