"""Nearest training images: one matrix product per tile and a selection. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images, as_tensor
from osr.detectors.distances import lengths, unit
from osr.detectors.kth_neighbor import kth_distances
from osr.detectors.selection import top_products
from osr.detectors.softmax import log_sum_exp
from osr.errors import InputError


@dataclass(kw_only=True, eq=False)
class Knn(Detector):
    """Distance to the k-th nearest training image, euclidean, features of length 1. Sun et al. 2022.

    Exact, in float64, as `kth_distances` says. A feature vector of zeros stays one: its distance to all
    others is 1, and to another vector of zeros 0.

    Args:
        num_neighbors: k. Published: 50 on CIFAR-10.

    `fit` refuses fewer training images than k. It keeps all training features, 4 N D bytes.
    """

    name: ClassVar[str] = "knn"
    needs_fit: ClassVar[bool] = True
    num_neighbors: int

    def _fit(self, images: Images) -> dict[str, Tensor]:
        _check_number(images, self.num_neighbors, self.name)
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
        seed: of the draw.

    `fit` refuses fewer training images than k.
    """

    name: ClassVar[str] = "nnguide"
    needs_fit: ClassVar[bool] = True
    num_neighbors: int
    bank_fraction: float
    seed: int

    def _fit(self, images: Images) -> dict[str, Tensor]:
        _check_number(images, self.num_neighbors, self.name)
        size = max(self.num_neighbors, round(self.bank_fraction * len(images)))
        drawn = np.sort(np.random.default_rng(self.seed).choice(len(images), size, replace=False))
        rows = drawn if images.keep is None else np.flatnonzero(images.keep)[drawn]
        features = as_tensor(images.outputs.features[rows], images.device).float()
        logits = as_tensor(images.outputs.logits[rows], images.device).float()
        bank = unit(features.double()) * log_sum_exp(logits)[:, None]
        return {"bank": bank.float()}

    def _score(self, batch: Batch) -> Tensor:
        directions = unit(batch.features.double()).float()
        products = top_products(directions, self._state["bank"], self.num_neighbors)
        return -products.double().mean(1) * log_sum_exp(batch.logits)


def _check_number(images: Images, count: int, detector: str) -> None:
    if len(images) < count:
        raise InputError(
            f"{detector} looks at {count} nearest training images (detectors.{detector}.num_neighbors), "
            f"but there are only {len(images)}."
        )
