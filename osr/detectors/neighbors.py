"""Nearest training images, exactly: one matrix product per tile and a selection. Higher = more unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from osr.detectors.base import Detector
from osr.detectors.chunks import Batch, Images, as_tensor
from osr.detectors.distances import lengths
from osr.detectors.selection import most_similar, top_products
from osr.errors import InputError


@dataclass(kw_only=True, eq=False)
class Knn(Detector):
    """Distance to the k-th nearest training image, euclidean, features of length 1. Sun et al. 2022.

    Exact. A feature vector of zeros stays one: its distance to all others is 1.

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
        start = 0
        for batch in images.batches():
            bank[start : start + len(batch.features)] = unit(batch.features)
            start += len(batch.features)
        return {"bank": bank}

    def _score(self, batch: Batch) -> Tensor:
        bank, features = self._state["bank"], unit(batch.features)
        _, rows = most_similar(features, bank, self.num_neighbors)
        # 2 - 2 cos would lose the digits of a small distance.
        return lengths(bank.index_select(0, rows[:, -1]).sub_(features))


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
        return {"bank": unit(features) * logits.logsumexp(1, keepdim=True)}

    def _score(self, batch: Batch) -> Tensor:
        products = top_products(batch.features, self._state["bank"], self.num_neighbors)
        size = lengths(batch.features)
        return -products.mean(1) / torch.where(size == 0, 1.0, size) * batch.logits.logsumexp(1)


def unit(features: Tensor) -> Tensor:
    """Rows divided by their length; rows of zeros stay."""
    divisor = lengths(features)[:, None]
    return features / torch.where(divisor == 0, 1.0, divisor)


def _check_number(images: Images, count: int, detector: str) -> None:
    if len(images) < count:
        raise InputError(
            f"{detector} looks at {count} nearest training images (detectors.{detector}.num_neighbors), "
            f"but there are only {len(images)}."
        )
