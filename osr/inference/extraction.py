"""Network and images to `Outputs`: each image passes once, and after that no network is needed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from osr.data.batches import Ordered
from osr.detectors.odin import Odin
from osr.devices import memory_advice
from osr.models.forward import forward, ready
from osr.models.open_set_model import OpenSetModel
from osr.outputs import FloatArray, IntArray, Outputs

CHUNK = 4096  # images whose head runs at once


def extract(
    model: OpenSetModel,
    data: Ordered,
    *,
    index: IntArray,
    batch_size: int,
    device: torch.device,
    title: str,
    odin: Odin | None = None,
) -> Outputs:
    """Logits and features of some images, without augmentation, in eval mode.

    Args:
        model: is moved to `device` and put in eval mode.
        data: N images, with labels 0..K-1 known, -1 unknown, -2 background.
        index: (N,) int64, row of each image in the split.
        batch_size: images per forward pass.
        device: where the network runs.
        title: of the progress bar, which only a terminal sees.
        odin: scores that need two forward passes and one backward pass more; None leaves them out.
    """
    model = ready(model, device)
    with torch.no_grad():
        weight, _ = model.head.affine()
    num_classes, (num_logits, width) = model.head.num_classes, weight.shape
    logits = np.empty((len(data), num_classes), dtype=np.float32)
    extra_logits = np.empty((len(data), num_logits - num_classes), dtype=np.float32)
    features = np.empty((len(data), width), dtype=np.float32)
    odin_scores = np.empty((len(data), int(odin is not None)))
    advice = f"extraction.batch_size is {batch_size}: try {max(1, batch_size // 2)}"
    with torch.inference_mode(), memory_advice(advice):
        batches = tqdm(
            data.batches(batch_size),
            desc=title,
            unit="batch",
            disable=None,
            total=-(-len(data) // batch_size),
        )
        for number, (images, _) in enumerate(batches):
            chunk = slice(number * batch_size, (number + 1) * batch_size)
            batch_logits, batch_features = forward(model, images.to(device))
            both = batch_logits.cpu().numpy()
            logits[chunk], extra_logits[chunk] = both[:, :num_classes], both[:, num_classes:]
            features[chunk] = batch_features.cpu().numpy()
            if odin:
                odin_scores[chunk, 0] = odin.scores_of(model, images.to(device)).cpu().numpy()
    return _outputs(
        model,
        logits,
        features,
        labels=data.labels.cpu().numpy(),
        index=index,
        extra=extra_logits,
        odin=odin_scores,
    )


def outputs_of(model: OpenSetModel, features: FloatArray, *, labels: IntArray, index: IntArray) -> Outputs:
    """What `extract` gives, where the features are there already and only the head is to run.

    Args:
        model: whose backbone, neck and `head.embed` made the features.
        features: (N, D) float32.
        labels: (N,) int64.
        index: (N,) int64, row of each image in the split.
    """
    model, num_classes = model.eval(), model.head.num_classes
    with torch.inference_mode():
        parts = [model.head(part).numpy() for part in torch.split(torch.from_numpy(features), CHUNK)]
    logits: FloatArray = np.concatenate(parts)
    return _outputs(
        model, logits[:, :num_classes], features, labels=labels, index=index, extra=logits[:, num_classes:]
    )


def _outputs(
    model: OpenSetModel,
    logits: FloatArray,
    features: FloatArray,
    *,
    labels: IntArray,
    index: IntArray,
    extra: FloatArray,
    odin: NDArray[np.float64] | None = None,
) -> Outputs:
    """With the part of the head that stands for known classes."""
    num_classes = model.head.num_classes
    with torch.no_grad():
        weight, bias = model.head.affine()
    return Outputs(
        logits=logits,
        features=features,
        labels=labels,
        index=np.asarray(index, dtype=np.int64),
        weight=weight.detach()[:num_classes].float().cpu().numpy(),
        bias=np.zeros(num_classes, np.float32) if bias is None else bias.detach()[:num_classes].cpu().numpy(),
        extra_logits=extra,
        odin=np.empty((len(logits), 0)) if odin is None else odin,
        made_from=model.origin,
    )
