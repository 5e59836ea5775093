"""OpenOOD's detectors by distance: Gaussians, neighbours, OpenMax; see benchmarks/peer_openood.py."""

from __future__ import annotations

import math

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import distance
from scipy.special import logsumexp
from sklearn.covariance import EmpiricalCovariance
from torch import Tensor

from benchmarks.peer_openood_batches import Array, Score, batched
from osr.detectors.settings import DetectorsSettings
from osr.detectors.weibull import fit_weibull
from osr.outputs import Outputs

LIBMR_SHIFT = 1.0


def centred(train: Outputs) -> tuple[Tensor, NDArray[np.float32]]:
    """Class means, and the features with them taken off."""
    features, labels = torch.from_numpy(train.features), torch.from_numpy(train.labels)
    means, parts = [], []
    for c in range(train.num_classes):
        own = features[labels == c]
        means.append(own.mean(0))
        parts.append(own - means[-1])
    return torch.stack(means), torch.cat(parts).numpy()


def precision(values: NDArray[np.float32]) -> Tensor:
    """Pseudo-inverse of the covariance."""
    return torch.from_numpy(EmpiricalCovariance(assume_centered=False).fit(values).precision_).float()


def square(values: Tensor, inverse: Tensor) -> Tensor:
    """Squared distances, as the diagonal of a matrix of all pairs."""
    return (values @ inverse @ values.T).diag()


def mahalanobis(train: Outputs, _: DetectorsSettings) -> Score:
    """MDS on the last features, without input noise."""
    means, values = centred(train)
    inverse = precision(values)
    return batched(
        lambda _, features: torch.stack([square(features - mean, inverse) for mean in means], 1).amin(1)
    )


def rmds(train: Outputs, _: DetectorsSettings) -> Score:
    """Relative MDS."""
    means, values = centred(train)
    inverse = precision(values)
    centre = torch.from_numpy(train.features).mean(0)
    free = precision((torch.from_numpy(train.features) - centre).numpy())

    def score(_: Tensor, features: Tensor) -> Tensor:
        background = square(features - centre, free)
        return torch.stack([square(features - mean, inverse) - background for mean in means], 1).amin(1)

    return batched(score)


def unit(features: Array) -> Array:
    """Rows of length 1, and the published addition of 1e-10."""
    return features / np.linalg.norm(features, axis=-1, keepdims=True) + 1e-10


def knn(train: Outputs, settings: DetectorsSettings) -> Score:
    """faiss, flat index; squared distances."""
    index = faiss.IndexFlatL2(train.features.shape[1])
    index.add(unit(train.features))
    return batched(
        lambda _, features: index.search(unit(features.numpy()), settings.knn.num_neighbors)[0][:, -1]
    )


def nnguide(train: Outputs, settings: DetectorsSettings) -> Score:
    """faiss, flat index of inner products, made anew for each batch; the bank is the first images."""
    chosen = settings.nnguide
    size = max(chosen.num_neighbors, round(chosen.bank_fraction * len(train)))
    bank = unit(train.features[:size]) * logsumexp(train.logits[:size], axis=1)[:, None]

    def score(logits: Tensor, features: Tensor) -> Array:
        index = faiss.IndexFlatIP(bank.shape[1])
        index.add(bank)
        found, _ = index.search(unit(features.numpy()), chosen.num_neighbors)
        return -found.mean(1) * logsumexp(logits.numpy(), axis=1)

    return batched(score)


def openmax(train: Outputs, settings: DetectorsSettings) -> Score:
    """Loops over images and classes; three distances of each training image, of which one is used."""
    groups: list[list[Array]] = [[] for _ in range(train.num_classes)]
    for logits, label in zip(torch.from_numpy(train.logits), train.labels, strict=True):
        if torch.argmax(logits) == label:
            groups[label].append(logits.numpy())
    means = [np.mean(group, axis=0) for group in groups]
    tails = []
    for mean, group in zip(means, groups, strict=True):
        euclidean = [distance.euclidean(mean, logits) for logits in group]
        _ = [distance.cosine(mean, logits) for logits in group]
        _ = [0.5 * distance.euclidean(mean, logits) + distance.cosine(mean, logits) for logits in group]
        tails.append(np.sort(euclidean)[-settings.openmax.tail_size :])
    smallest = [float(tail[0]) for tail in tails]
    shape, scale = fit_weibull(np.stack([tail + LIBMR_SHIFT - tail[0] for tail in tails]))
    alpha = min(settings.openmax.alpha, train.num_classes)

    def one(logits: Array) -> float:
        omega = np.zeros(len(means))
        omega[logits.argsort()[::-1][:alpha]] = [(alpha + 1 - rank) / alpha for rank in range(1, alpha + 1)]
        revised, moved = [], []
        for c, mean in enumerate(means):
            gone = max(distance.euclidean(logits, mean) + LIBMR_SHIFT - smallest[c], 0.0)
            rejection = 1 - math.exp(-((gone / scale[c]) ** shape[c]))
            revised.append(logits[c] * (1 - rejection * omega[c]))
            moved.append(logits[c] - revised[-1])
        unknown = np.exp(np.sum(moved))
        return unknown / (np.exp(revised).sum() + unknown)

    return batched(lambda logits, _: np.array([one(image) for image in logits.numpy().astype(np.float64)]))
