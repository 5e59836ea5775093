"""References of detectors that change activations or weights first, in float64."""

import numpy as np
from scipy.special import logsumexp


def wide(images):
    """Logits, features, labels, weight and bias in float64."""
    arrays = (images.logits, images.features, images.weight, images.bias)
    logits, features, weight, bias = (np.asarray(array, dtype=np.float64) for array in arrays)
    return logits, features, images.labels, weight, bias


def energy_of(features, test):
    _, _, _, weight, bias = wide(test)
    return -logsumexp(features @ weight.T + bias, axis=1)


def react(train, test, *, quantile, lower_quantile):
    ends = np.quantile(wide(train)[1], [lower_quantile, quantile])
    return energy_of(np.clip(wide(test)[1], ends[0] if lower_quantile else None, ends[1]), test)


def largest(features, pruned_fraction):
    """The features of which the smallest are 0."""
    kept = features.shape[1] - round(features.shape[1] * pruned_fraction)
    bound = np.sort(features, axis=1)[:, -kept][:, None]
    return np.where(features >= bound, features, 0)


def ash(_, test, *, pruned_fraction):
    features = wide(test)[1]
    pruned = largest(features, pruned_fraction)
    return energy_of(pruned * np.exp(features.sum(1) / pruned.sum(1))[:, None], test)


def scale(_, test, *, pruned_fraction):
    logits, features, _, _, bias = wide(test)
    kept = features.shape[1] - round(features.shape[1] * pruned_fraction)
    factor = np.exp(features.sum(1) / np.sort(features, axis=1)[:, -kept:].sum(1))
    return -logsumexp((logits - bias) * factor[:, None] + bias, axis=1)


def dice(train, test, *, masked_fraction):
    _, features, _, weight, bias = wide(train)
    contribution = weight * features.mean(0)
    masked = np.where(contribution > np.quantile(contribution, masked_fraction), weight, 0)
    return -logsumexp(wide(test)[1] @ masked.T + bias, axis=1)


def fdbd(train, test):
    logits, features, _, weight, _ = wide(test)
    distances = []
    for row in logits:
        own = row.argmax()
        others = np.arange(len(row)) != own
        distances.append(
            ((row[own] - row) / np.linalg.norm(weight[own] - weight + ~others[:, None], axis=1))[others]
        )
    centre = wide(train)[1].mean(0)
    return -np.mean(distances, axis=1) / np.linalg.norm(features - centre, axis=1)
