"""pytorch-ood's detectors on our Outputs, with our settings, for tests/test_parity*.py and the benchmarks.

Each function fits on training outputs and returns a function from test outputs to pytorch-ood's own scores,
which are not rescaled here. pytorch-ood is a development requirement.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_ood import detector as peer
from torch import Tensor, nn

from osr.detectors.settings import DetectorsSettings
from osr.detectors.vim import default_dimension
from osr.outputs import Outputs

Score = Callable[[Outputs], NDArray[np.floating]]
Peer = Callable[[Outputs, DetectorsSettings], Score]

# DICE multiplies (B, 1, D) by (K, D): batches keep that product below this many numbers.
MAX_PRODUCT = 1 << 27


def of_logits(score: Callable[[Tensor], Tensor]) -> Score:
    """A score function of logits alone."""
    return lambda test: score(torch.from_numpy(test.logits)).numpy()


def of_features(score: Callable[[Tensor], Tensor]) -> Score:
    """A score function of features."""
    return lambda test: score(torch.from_numpy(test.features)).numpy()


def of_maps(score: Callable[[Tensor], Tensor]) -> Score:
    """A score function of feature maps, here of one pixel."""
    return lambda test: score(torch.from_numpy(test.features)[:, :, None, None]).numpy()


def head_of(train: Outputs) -> nn.Linear:
    """The linear head."""
    head = nn.Linear(train.weight.shape[1], train.num_classes)
    head.load_state_dict({"weight": torch.from_numpy(train.weight), "bias": torch.from_numpy(train.bias)})
    return head.requires_grad_(False)


def flat_head(train: Outputs) -> nn.Sequential:
    """The linear head after feature maps of one pixel."""
    return nn.Sequential(nn.Flatten(), head_of(train))


def fitted(detector: object, train: Outputs) -> Score:
    """Fit a detector of features."""
    detector.fit_features(torch.from_numpy(train.features), torch.from_numpy(train.labels))
    return of_features(detector.predict_features)


def gen(train: Outputs, settings: DetectorsSettings) -> Score:
    """GEN over the top M."""
    return of_logits(
        lambda logits: peer.GEN.score(
            logits, settings.gen.gamma, min(settings.gen.num_top, train.num_classes)
        )
    )


def nnguide(train: Outputs, settings: DetectorsSettings) -> Score:
    """NNGuide with the first share of the images as its bank."""
    chosen = settings.nnguide
    size = max(chosen.num_neighbors, round(chosen.bank_fraction * len(train)))
    bank = train.select(slice(0, size))
    return fitted(peer.NNGuide(None, head_of(train), chosen.num_neighbors), bank)


def vim(train: Outputs, settings: DetectorsSettings) -> Score:
    """ViM with our number of principal directions."""
    width = train.weight.shape[1]
    dimension = default_dimension(width) if settings.vim.dimension == "auto" else settings.vim.dimension
    head = head_of(train)
    return fitted(peer.ViM(None, dimension, head.weight, head.bias), train)


def klm(train: Outputs, _: DetectorsSettings) -> Score:
    """KL matching."""
    detector = peer.KLMatching(None)
    detector.fit_logits(torch.from_numpy(train.logits), torch.from_numpy(train.labels))
    return of_logits(detector.predict_logits)


def react(train: Outputs, settings: DetectorsSettings) -> Score:
    """ReAct with energy."""
    detector = peer.ReAct(None, flat_head(train), percentile=settings.react.quantile)
    maps = torch.from_numpy(train.features)[:, :, None, None]
    detector.fit_feature_maps(maps, torch.from_numpy(train.labels))
    return of_maps(detector.predict_feature_maps)


def ash(train: Outputs, settings: DetectorsSettings) -> Score:
    """ASH-S, -B or -P with energy."""
    variant = f"ash-{settings.ash.variant.lower()}"
    detector = peer.ASH(None, flat_head(train), variant, settings.ash.pruned_fraction)
    return of_maps(detector.predict_feature_maps)


def scale(train: Outputs, settings: DetectorsSettings) -> Score:
    """SCALE with energy."""
    detector = peer.SCALE(None, flat_head(train), settings.scale.pruned_fraction)
    return of_maps(detector.predict_feature_maps)


def dice(train: Outputs, settings: DetectorsSettings) -> Score:
    """DICE with energy, in batches that its (B, K, D) product allows."""
    head = head_of(train)
    detector = peer.DICE(None, head.weight, head.bias, settings.dice.masked_fraction)
    score = fitted(detector, train)
    step = max(1, MAX_PRODUCT // train.weight.size)
    return lambda test: np.concatenate(
        [score(test.select(slice(start, start + step))) for start in range(0, len(test), step)]
    )


def gradnorm(train: Outputs, _: DetectorsSettings) -> Score:
    """GradNorm of the head's weight."""
    detector = peer.GradNorm(head_of(train), param_filter=lambda name: name == "weight")
    return of_features(detector.to("cpu").predict)


def openmax(train: Outputs, settings: DetectorsSettings) -> Score:
    """OpenMax of logits, euclidean, over all training images."""
    detector = peer.OpenMax(None, settings.openmax.tail_size, settings.openmax.alpha, euclid_weight=1.0)
    detector.fit_logits(torch.from_numpy(train.logits), torch.from_numpy(train.labels))
    return of_logits(detector.predict_logits)


PEERS: dict[str, Peer] = {
    "msp": lambda _, __: of_logits(peer.MaxSoftmax.score),
    "maxlogit": lambda _, __: of_logits(peer.MaxLogit.score),
    "energy": lambda _, settings: of_logits(
        lambda logits: peer.EnergyBased.score(logits, settings.energy.temperature)
    ),
    "entropy": lambda _, __: of_logits(peer.Entropy.score),
    "gen": gen,
    "gradnorm": gradnorm,
    "openmax": openmax,
    "mahalanobis": lambda train, _: fitted(peer.Mahalanobis(None), train),
    "rmds": lambda train, _: fitted(peer.RMD(None), train),
    "knn": lambda train, settings: fitted(peer.KNN(None, k=settings.knn.num_neighbors), train),
    "nnguide": nnguide,
    "vim": vim,
    "klm": klm,
    "she": lambda train, _: fitted(peer.SHE(None, head_of(train)), train),
    "react": react,
    "ash": ash,
    "scale": scale,
    "dice": dice,
    "fdbd": lambda train, _: fitted(peer.fDBD(None, head_of(train)), train),
    "nci": lambda train, settings: fitted(peer.NCI(None, head_of(train), settings.nci.alpha), train),
    "pnml": lambda train, _: fitted(peer.PNML(None, head_of(train)), train),
}
