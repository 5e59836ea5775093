"""Network and images to `Outputs`: each image passes once, and after that no network is needed."""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from osr.data.batches import Images
from osr.detectors.odin import Odin
from osr.devices import memory_advice
from osr.models.open_set_model import OpenSetModel
from osr.outputs import IntArray, Outputs


def extract(
    model: OpenSetModel,
    data: Images,
    *,
    index: IntArray,
    batch_size: int,
    device: torch.device,
    title: str,
    odin: Odin | None = None,
) -> Outputs:
    """Logits and features of some images, without augmentation, in float32 and eval mode.

    Args:
        model: is moved to `device` and put in eval mode.
        data: N images, with labels 0..K-1 known, -1 unknown, -2 background.
        index: (N,) int64, row of each image in the split.
        batch_size: images per forward pass.
        device: where the network runs.
        title: of the progress bar, which only a terminal sees.
        odin: scores that need two forward passes and one backward pass more; None leaves them out.
    """
    model = model.to(device).eval()
    with torch.no_grad():
        weight, bias = model.head.affine()
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
            batch_logits, batch_features = model(images.to(device))
            both = batch_logits.float().cpu().numpy()
            logits[chunk], extra_logits[chunk] = both[:, :num_classes], both[:, num_classes:]
            features[chunk] = batch_features.float().cpu().numpy()
            if odin:
                odin_scores[chunk, 0] = odin.scores_of(model, images.to(device)).cpu().numpy()
    return Outputs(
        logits=logits,
        features=features,
        labels=data.labels.cpu().numpy(),
        index=np.asarray(index, dtype=np.int64),
        weight=weight.detach()[:num_classes].float().cpu().numpy(),
        bias=np.zeros(num_classes, np.float32) if bias is None else bias.detach()[:num_classes].cpu().numpy(),
        extra_logits=extra_logits,
        odin=odin_scores,
        made_from=model.origin,
    )
