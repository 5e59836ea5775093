"""New classes among rejected images: dense groups in the network's features, and how stable they are."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osr.errors import InputError
from osr.progress import counted

COMPONENTS = 50  # of the features, at most: distances in more tell little, and take long
REPEATS, SHARE = 20, 0.5  # clusterings of so large a part of the images, for the stability
NONE = -1

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """C groups among N rejected images, the largest first.

    Args:
        labels: (N,) int64 in 0..C-1; -1 for images in no group.
        membership: (N,) float64 in 0..1, how deep in its group an image lies; 0 for those in none.
        stability: (C,) float64 in 0..1, mean Jaccard similarity of each group with the most similar one of
            clusterings of random halves of the images. Hennig (2007) takes 0.75 and more as stable, and does
            not trust what is below 0.6.
    """

    labels: IntArray
    membership: FloatArray
    stability: FloatArray

    @property
    def sizes(self) -> IntArray:
        """(C,) images in each group."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.stability))


def discover(
    rejected: NDArray[np.float32],
    accepted: NDArray[np.float32] | None = None,
    *,
    min_images: int,
    seed: int = 0,
) -> Candidates:
    """Cluster images by the directions of their features: HDBSCAN (Campello, Moulavi and Sander 2013).

    Features are brought to length 1 and to their first `COMPONENTS` principal components. A group is what is
    denser than its surroundings; images between groups are in none. A few accepted images take part so that
    a group stands out from something, also where it is the only one, and rejected images of known classes go
    to these: groups with more accepted images than rejected ones are no candidates. Where a new class lies
    close to a known one, many accepted images would hide it.

    Args:
        rejected: (N, D) features of a network.
        accepted: (M, D) of a sample of images that were accepted as known: about as many of each class as a
            group has.
        min_images: of a group, at least 2.
        seed: of the halves behind the stability.

    Raises:
        InputError: a number out of range, or features that are no finite matrix.
    """
    if min_images < 2:
        raise InputError(f"min_images is {min_images}, but must be at least 2.")
    count = len(rejected)
    features = rejected if accepted is None or not len(accepted) else np.concatenate([rejected, accepted])
    if features.ndim != 2 or not np.isfinite(features).all():
        raise InputError(f"Features must be a finite matrix (N, D), not of shape {features.shape}.")
    if count < min_images:
        return Candidates(np.full(count, NONE), np.zeros(count), np.empty(0))
    points, num_threads = _reduced(features), os.cpu_count() or 1
    found, depth = _clusters(points, min_images, num_threads)
    groups = [found[:count] == number for number in range(found.max() + 1)]
    groups = [
        inside
        for number, inside in enumerate(groups)
        if inside.sum() >= max(min_images, 1 + (found[count:] == number).sum())
    ]
    groups.sort(key=lambda inside: (-inside.sum(), inside.argmax()))
    labels = np.full(count, NONE)
    for number, inside in enumerate(groups):
        labels[inside] = number
    membership = np.where(labels >= 0, depth[:count], 0.0)
    return Candidates(labels, membership, _stability(points, groups, min_images, seed, num_threads))


def _reduced(features: NDArray[np.float32]) -> FloatArray:
    from sklearn.decomposition import PCA

    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(lengths > 0, lengths, 1)
    count = min(COMPONENTS, *unit.shape)
    return np.asarray(PCA(count, svd_solver="covariance_eigh").fit_transform(unit.astype(np.float64)))


def _clusters(points: FloatArray, min_images: int, num_threads: int = 1) -> tuple[IntArray, FloatArray]:
    from sklearn.cluster import HDBSCAN

    model = HDBSCAN(min_cluster_size=min_images, copy=True, n_jobs=num_threads).fit(points)
    return model.labels_, model.probabilities_


def _stability(
    points: FloatArray, groups: list[NDArray[np.bool_]], min_images: int, seed: int, num_threads: int
) -> FloatArray:
    """Of each group of the rejected images, which are the first points."""
    rng, similar = np.random.default_rng(seed), [list[float]() for _ in groups]
    size, fewest = round(SHARE * len(points)), max(2, round(SHARE * min_images))
    halves = [rng.permutation(len(points))[:size] for _ in range(REPEATS if groups else 0)]
    with ThreadPoolExecutor(num_threads) as pool:
        clustered = pool.map(lambda rows: _clusters(points[rows], fewest)[0], halves)
        for rows, again in zip(counted(halves, "cluster halves", "halves"), clustered, strict=True):
            is_rejected = rows < len(groups[0])
            rows, again = rows[is_rejected], again[is_rejected]
            others = [again == number for number in range(again.max(initial=NONE) + 1)]
            for inside, found in zip(groups, similar, strict=True):
                if (here := inside[rows]).any():
                    found.append(max((_jaccard(here, other) for other in others), default=0.0))
    return np.array([np.mean(found) if found else 0.0 for found in similar])


def _jaccard(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())
