"""Nearest training images: one matrix product per tile and a selection. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images
from osr.detectors.distances import lengths, rounded, unit
from osr.detectors.kth_neighbor import kth_distances
from osr.detectors.selection import top_products
from osr.detectors.softmax import log_sum_exp
from osr.detectors.tracing import is_traced
from osr.errors import InputError

# Images, and rows of the bank, whose relations are in memory at once.
_ROWS = 2048
THRESHOLD = 0.03  # relations up to this count as none; fixed in the authors' code and in OpenOOD
_RAMP = 1e-3  # of the threshold, over which a relation comes in
_KEEPS_IMAGES = "keeps training images themselves, a share of all (bank_fraction)"


@dataclass(kw_only=True, eq=False)
class Knn(Detector):
    """Distance to the k-th nearest training image, euclidean, features of length 1. Sun et al. 2022.

    Exact, in float64, as `kth_distances` says. A feature vector of zeros stays one: its distance to all
    others is 1, and to another vector of zeros 0.

    Args:
        num_neighbors: k. Published: 50 on CIFAR-10.
        bank_fraction: random share of the training images that are kept and compared with, at least k.

    `fit` refuses fewer training images than k. It keeps the features of the bank, 4 D bytes an image.
    """

    name: ClassVar[str] = "knn"
    needs_fit: ClassVar[bool] = True
    needs_all: ClassVar[str] = _KEEPS_IMAGES
    num_neighbors: int
    bank_fraction: float = 1.0

    def _fit(self, images: Images) -> dict[str, Tensor]:
        _check_number(images, self.num_neighbors, self.name)
        images = _drawn(images, self.bank_fraction, self.num_neighbors)
        bank = torch.empty((len(images), images.num_features), device=images.device)
        sizes = torch.empty(len(images), dtype=torch.float64, device=images.device)
        start = 0
        for batch in images.batches():
            rows = slice(start, start + len(batch.features))
            bank[rows], sizes[rows] = batch.features, lengths(batch.features.double())
            start = rows.stop
        return {"bank": bank, "lengths": sizes}

    def _score(self, batch: Batch) -> Tensor:
        return kth_distances(batch.features, self._state["bank"], self._state["lengths"], self.num_neighbors)


@dataclass(kw_only=True, eq=False)
class NNGuide(Detector):
    """-logsumexp(z) times the mean of the k largest <f, e_i f_i>, all f of length 1. Park et al. 2023.

    f_i are the features of a random share of the training images, the bank, and e_i the logsumexp of their
    logits. The formula is kept as published also where a logsumexp is negative.

    Args:
        num_neighbors: k. Published: 10.
        bank_fraction: share of the training images in the bank, which has at least k. Published: 0.01
            (ImageNet).

    `fit` refuses fewer training images than k.
    """

    name: ClassVar[str] = "nnguide"
    needs_fit: ClassVar[bool] = True
    needs_all: ClassVar[str] = _KEEPS_IMAGES
    num_neighbors: int
    bank_fraction: float

    def _fit(self, images: Images) -> dict[str, Tensor]:
        _check_number(images, self.num_neighbors, self.name)
        chosen = _drawn(images, self.bank_fraction, self.num_neighbors).batches()
        bank = [unit(part.features.double()) * log_sum_exp(part.logits)[:, None] for part in chosen]
        return {"bank": torch.cat(bank).float()}

    def _score(self, batch: Batch) -> Tensor:
        directions = unit(batch.features.double()).float()
        products = top_products(directions, self._state["bank"], self.num_neighbors)
        return -products.double().mean(1) * log_sum_exp(batch.logits)


@dataclass(kw_only=True, eq=False)
class Relation(Detector):
    """-sum over the bank of r^power where r > `THRESHOLD`, the relation of images. Kim et al. 2023.

    r = max(cos(f, f_i), 0) <p, p_i>, p = softmax(z): how alike image i is in features and in classes. As
    published, a relation at the threshold counts in full or not at all by the last bit of a feature, which
    runtimes round otherwise. Here it comes in linearly between the threshold and 1.001 times the threshold.

    Args:
        power: above 0. Published: chosen on unknown images; 1 needs none.
        bank_fraction: random share of the training images that are kept and compared with, at least one.

    The products are float64: a sum over the bank is the same alone as in a batch.
    """

    name: ClassVar[str] = "relation"
    needs_fit: ClassVar[bool] = True
    needs_all: ClassVar[str] = _KEEPS_IMAGES
    power: float
    bank_fraction: float

    def _fit(self, images: Images) -> dict[str, Tensor]:
        parts = [
            (unit(part.features.double()).float(), part.logits.double().softmax(1).float())
            for part in _drawn(images, self.bank_fraction, 1).batches()
        ]
        features, classes = zip(*parts, strict=True)
        return {"bank": torch.cat(features), "classes": torch.cat(classes)}

    def _score(self, batch: Batch) -> Tensor:
        whole = unit(batch.features.double()), batch.logits.double().softmax(1)
        if is_traced():
            return -rounded(self._sums(*whole))
        parts = zip(*(torch.split(values, _ROWS) for values in whole), strict=True)
        return -rounded(torch.cat([self._sums(features, classes) for features, classes in parts]))

    def _sums(self, features: Tensor, classes: Tensor) -> Tensor:
        """(n,) float64, for features of length 1 (n, D) and probabilities (n, K), float64."""
        total = features.new_zeros(features.shape[0])
        tiles = zip(*(torch.split(self._state[key], _ROWS) for key in ("bank", "classes")), strict=True)
        for near, alike in tiles:
            relations = (features @ near.double().T).clamp_min_(0).mul_(classes @ alike.double().T)
            counted = self._counted(relations)
            total += (relations if self.power == 1 else relations.pow_(self.power)).mul_(counted).sum(1)
        return total

    def _counted(self, relations: Tensor) -> Tensor:
        """How much of each relation counts, in 0..1, a fresh tensor."""
        return relations.sub(THRESHOLD).div_(_RAMP * THRESHOLD).clamp_(0, 1)


def _drawn(images: Images, fraction: float, at_least: int, seed: int = 0) -> Images:
    """A random share of the images, in their order; all of them for a share of 1."""
    size = max(at_least, round(fraction * len(images)))
    if size == len(images):
        return images
    drawn = np.random.default_rng(seed).choice(len(images), size, replace=False)
    return images.only(images.rows[drawn])


def _check_number(images: Images, count: int, detector: str) -> None:
    if len(images) < count:
        raise InputError(
            f"{detector} looks at {count} nearest training images (detectors.{detector}.num_neighbors), "
            f"but there are only {len(images)}."
        )
