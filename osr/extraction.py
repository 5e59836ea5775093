"""Network and images to `Outputs`: each image passes once, and after that no network is needed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from osr.devices import memory_advice
from osr.models.open_set_model import OpenSetModel
from osr.outputs import IntArray, Outputs


def extract(
    model: OpenSetModel,
    images: NDArray[np.uint8],
    *,
    rows: IntArray,
    labels: IntArray,
    batch_size: int,
    device: torch.device,
    title: str,
) -> Outputs:
    """Logits and features of some images, without augmentation, in float32 and eval mode.

    Args:
        model: is moved to `device` and put in eval mode.
        images: (N, H, W, C) uint8, may be memory-mapped.
        rows: (M,) int64, which images, in this order.
        labels: (M,) int64, their labels: 0..K-1 known, -1 unknown, -2 background.
        batch_size: images per forward pass.
        device: where the network runs.
        title: of the progress bar, which only a terminal sees.
    """
    model = model.to(device).eval()
    with torch.no_grad():
        weight, bias = model.head.affine()
    num_classes, (num_logits, width) = model.head.num_classes, weight.shape
    logits = np.empty((len(rows), num_classes), dtype=np.float32)
    extra_logits = np.empty((len(rows), num_logits - num_classes), dtype=np.float32)
    features = np.empty((len(rows), width), dtype=np.float32)
    advice = f"extraction.batch_size is {batch_size}: try {max(1, batch_size // 2)}"
    with torch.inference_mode(), memory_advice(advice):
        for start in tqdm(range(0, len(rows), batch_size), desc=title, unit="batch", disable=None):
            chunk = slice(start, start + batch_size)
            batch = torch.from_numpy(np.ascontiguousarray(images[rows[chunk]].transpose(0, 3, 1, 2)))
            batch_logits, batch_features = model(batch.to(device))
            both = batch_logits.float().cpu().numpy()
            logits[chunk], extra_logits[chunk] = both[:, :num_classes], both[:, num_classes:]
            features[chunk] = batch_features.float().cpu().numpy()
    return Outputs(
        logits=logits,
        features=features,
        labels=np.asarray(labels, dtype=np.int64),
        index=np.asarray(rows, dtype=np.int64),
        weight=weight.detach()[:num_classes].float().cpu().numpy(),
        bias=np.zeros(num_classes, np.float32) if bias is None else bias.detach()[:num_classes].cpu().numpy(),
        extra_logits=extra_logits,
    )
