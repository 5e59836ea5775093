"""OpenOOD's published algorithms (v1.5) on our Outputs, with our settings, written anew for the benchmarks.

What makes them fast or slow is kept: batches of 200 images, a (B, B) matrix whose diagonal is used, the
Python function per pair of KL matching, the gradient per image of GradNorm, the loops over images and classes
of OpenMax, faiss's flat indices, a general eigendecomposition in ViM. The network's pass over the images is
left out on all sides, and so is the second product with the head where OpenOOD repeats the network's. OpenMax
fits Weibulls with libmr there; here with our fast fit after libmr's shift by 1. Scores are turned so that
higher is more unknown, and not rescaled.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import pairwise_distances_argmin_min
from torch import Tensor

from benchmarks.peer_openood_batches import Array, Peer, Score, batched
from benchmarks.peer_openood_distances import knn, mahalanobis, nnguide, openmax, rmds
from osr.detectors.settings import DetectorsSettings
from osr.detectors.vim import default_dimension
from osr.outputs import Outputs


def head(train: Outputs) -> tuple[Tensor, Tensor]:
    """Weight and bias."""
    return torch.from_numpy(train.weight), torch.from_numpy(train.bias)


def energy_after(train: Outputs, shape: Callable[[Tensor], Tensor]) -> Score:
    """Energy of the logits of shaped features."""
    weight, bias = head(train)
    return batched(lambda _, features: -torch.logsumexp(shape(features) @ weight.T + bias, 1))


def gen(_: Outputs, settings: DetectorsSettings) -> Score:
    """Sort all probabilities, keep M."""

    def score(logits: Tensor, _: Tensor) -> Tensor:
        top = logits.softmax(1).sort(1)[0][:, -settings.gen.num_top :]
        return (top**settings.gen.gamma * (1 - top) ** settings.gen.gamma).sum(1)

    return batched(score)


def gradnorm(train: Outputs, _: DetectorsSettings) -> Score:
    """One backward pass per image."""
    layer = torch.nn.Linear(train.weight.shape[1], train.num_classes)
    layer.load_state_dict({"weight": torch.from_numpy(train.weight), "bias": torch.from_numpy(train.bias)})

    def score(_: Tensor, features: Tensor) -> Array:
        norms = []
        for image in features:
            layer.zero_grad()
            (-torch.log_softmax(layer(image[None]), 1).sum(1)).mean().backward()
            norms.append(-float(layer.weight.grad.abs().sum()))
        return np.array(norms)

    return batched(score)


def vim(train: Outputs, settings: DetectorsSettings) -> Score:
    """A general eigendecomposition of the covariance."""
    width = train.features.shape[1]
    dimension = default_dimension(width) if settings.vim.dimension == "auto" else settings.vim.dimension
    origin = -np.linalg.pinv(train.weight) @ train.bias
    covariance = EmpiricalCovariance(assume_centered=True).fit(train.features - origin).covariance_
    values, vectors = np.linalg.eig(covariance)
    minor = np.ascontiguousarray(vectors.T[np.argsort(-values)[dimension:]].T)
    residual = np.linalg.norm((train.features - origin) @ minor, axis=1)
    alpha = train.logits.max(1).mean() / residual.mean()
    return batched(
        lambda logits, features: (
            alpha * np.linalg.norm((features.numpy() - origin) @ minor, axis=1)
            - logsumexp(logits.numpy(), axis=1)
        )
    )


def klm(train: Outputs, _: DetectorsSettings) -> Score:
    """A Python function per pair of image and class."""
    probabilities, predicted = softmax(train.logits, axis=1), train.predictions
    templates = np.stack([probabilities[predicted == c].mean(0) for c in np.unique(predicted)])

    def divergence(p: Array, q: Array) -> float:
        return np.sum(np.where(p != 0, p * np.log(p / q), 0))

    return batched(
        lambda logits, _: pairwise_distances_argmin_min(
            softmax(logits.numpy(), axis=1), templates, metric=divergence
        )[1]
    )


def she(train: Outputs, _: DetectorsSettings) -> Score:
    """Inner product with the mean of the predicted class."""
    features, labels = torch.from_numpy(train.features), torch.from_numpy(train.labels)
    correct = torch.from_numpy(train.predictions) == labels
    means = torch.stack([features[correct & (labels == c)].mean(0) for c in range(train.num_classes)])
    return batched(lambda logits, values: -(values * means[logits.argmax(1)]).sum(1))


def react(train: Outputs, settings: DetectorsSettings) -> Score:
    """The percentile of all activations."""
    bound = float(np.percentile(train.features.flatten(), 100 * settings.react.quantile))
    return energy_after(train, lambda features: features.clip(max=bound))


def kept(features: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The largest activations of each image, and where they are."""
    return torch.topk(features, features.shape[1] - round(features.shape[1] * share), dim=1)


def ash(train: Outputs, settings: DetectorsSettings) -> Score:
    """ASH-S."""

    def shape(features: Tensor) -> Tensor:
        values, places = kept(features, settings.ash.pruned_fraction)
        pruned = torch.zeros_like(features).scatter_(1, places, values)
        return pruned * torch.exp(features.sum(1) / pruned.sum(1))[:, None]

    return energy_after(train, shape)


def scale(train: Outputs, settings: DetectorsSettings) -> Score:
    """As ASH-S, but nothing is pruned in the end."""

    def shape(features: Tensor) -> Tensor:
        values, places = kept(features, settings.scale.pruned_fraction)
        pruned = torch.zeros_like(features).scatter_(1, places, values)
        return features * torch.exp(features.sum(1) / pruned.sum(1))[:, None]

    return energy_after(train, shape)


def dice(train: Outputs, settings: DetectorsSettings) -> Score:
    """The masked product as (B, K, D) numbers, then their sum."""
    weight, bias = head(train)
    contribution = train.features.mean(0)[None] * train.weight
    bound = np.percentile(contribution, 100 * settings.dice.masked_fraction)
    masked = weight * torch.from_numpy(contribution > bound)
    return batched(lambda _, features: -torch.logsumexp((features[:, None] * masked).sum(2) + bias, 1))


def fdbd(train: Outputs, _: DetectorsSettings) -> Score:
    """Distances to the boundaries, not divided by their number."""
    centre = torch.from_numpy(train.features.mean(0))
    gaps = np.zeros((train.num_classes, train.num_classes))
    for c in range(train.num_classes):
        gaps[c] = np.linalg.norm(train.weight - train.weight[c], axis=1)
    np.fill_diagonal(gaps, 1)
    table = torch.from_numpy(gaps)

    def score(logits: Tensor, features: Tensor) -> Tensor:
        largest, predicted = logits.max(1)
        distances = (logits - largest[:, None]).abs() / table[predicted]
        return -distances.sum(1) / torch.linalg.vector_norm(features - centre, dim=1)

    return batched(score)


PEERS: dict[str, Peer] = {
    "msp": lambda _, __: batched(lambda logits, _: -logits.softmax(1).max(1)[0]),
    "maxlogit": lambda _, __: batched(lambda logits, _: -logits.max(1)[0]),
    "energy": lambda _, settings: batched(
        lambda logits, _: (
            -settings.energy.temperature * torch.logsumexp(logits / settings.energy.temperature, 1)
        )
    ),
    "gen": gen,
    "gradnorm": gradnorm,
    "openmax": openmax,
    "mahalanobis": mahalanobis,
    "rmds": rmds,
    "knn": knn,
    "nnguide": nnguide,
    "vim": vim,
    "klm": klm,
    "she": she,
    "react": react,
    "ash": ash,
    "scale": scale,
    "dice": dice,
    "fdbd": fdbd,
}
