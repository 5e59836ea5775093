"""Training with a backbone that learns nothing: features are computed once, and a solver fits the head."""

from __future__ import annotations

import numpy as np
import torch

from osr.data.batches import Images
from osr.devices import memory_advice
from osr.models.forward import forward, ready
from osr.models.open_set_model import OpenSetModel
from osr.outputs import FloatArray, IntArray
from osr.progress import Steps
from osr.training.probe import best_of, fit_probes, quality
from osr.training.settings import ProbeSettings
from osr.training.state import Progress


def features_of(
    model: OpenSetModel,
    data: Images,
    *,
    batch_size: int,
    device: torch.device,
    title: str,
) -> FloatArray:
    """(N, D) float32, what the head is linear in, without augmentation.

    Args:
        model: is moved to `device` and put in eval mode.
        data: N images.
        batch_size: images per forward pass.
        device: where the network runs.
        title: of the step, where a terminal or a log shows how much of it is done.
    """
    model = ready(model, device)
    features = np.empty((len(data), model.head.affine()[0].shape[1]), dtype=np.float32)
    advice = f"train.batch_size is {batch_size}: try {max(2, batch_size // 2)}"
    with torch.inference_mode(), memory_advice(advice), Steps(title, len(data), "images") as steps:
        for number, (images, _) in enumerate(data.batches(batch_size)):
            _logits, found = forward(model, images.to(device))
            features[number * batch_size : (number + 1) * batch_size] = found.cpu().numpy()
            steps.step(len(images))
    return features


def probe(
    model: OpenSetModel,
    train: tuple[FloatArray, IntArray],
    val: tuple[FloatArray, IntArray],
    settings: ProbeSettings,
) -> Progress:
    """Give the head of `model` the logistic regression that validation knowns like best.

    Args:
        model: with an identity neck and a linear head.
        train: (N, D) features and (N,) labels.
        val: the same of validation knowns.
        settings: `train.probe`.

    Returns:
        a row of history per penalty, numbered like epochs.
    """
    head = model.head
    has_bias = head.bias is not None
    fits = fit_probes(train, val, num_classes=head.num_classes, bias=has_bias, settings=settings)
    best, temperature = best_of(fits), head.settings.temperature
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(fits[best].weight * temperature))
        if head.bias is not None:
            head.bias.copy_(torch.from_numpy(fits[best].bias * temperature))
    return Progress([{"epoch": number, **fit.row} for number, fit in enumerate(fits, 1)], best + 1)


def as_given(
    model: OpenSetModel, train: tuple[FloatArray, IntArray], val: tuple[FloatArray, IntArray]
) -> Progress:
    """One row of history for a network that nobody trains here: its losses and accuracies."""
    num_classes = model.head.num_classes
    with torch.no_grad():
        weight, bias = model.head.affine()
        matrix = weight[:num_classes].double().cpu().numpy()
        offset = np.zeros(num_classes) if bias is None else bias[:num_classes].double().cpu().numpy()
    row: dict[str, float] = {"epoch": 1}
    for name, (features, labels) in (("train", train), ("val", val)):
        row[f"{name}/loss"], row[f"{name}/accuracy"] = quality(matrix, offset, features, labels)
    return Progress([row], 1)
