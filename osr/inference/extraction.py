"""Network and images to `Outputs`: each image passes once, and after that no network is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from osr.data.batches import Ordered
from osr.detectors.network_again import NetworkAgain
from osr.devices import memory_advice
from osr.errors import InputError
from osr.inference.settings import ExtractionSettings
from osr.models.forward import forward, ready
from osr.models.open_set_model import OpenSetModel
from osr.outputs import FloatArray, IntArray, LinearLogits, Outputs
from osr.progress import Steps
from osr.settings.own_code import source_of
from osr.stored.digests import code_digest, digest_of
from osr.stored.growing import Form, grown_in, write_rows

CHUNK = 4096  # images, about, after which all that is on the disk is known to be whole


@dataclass(frozen=True)
class Stored:
    """Which outputs are kept, and where.

    Args:
        logits: whether they are kept; else they are worked out from the features when they are read, with the
            same bits.
        features: float32, or float16, to which they are rounded first. Logits are those of the features that
            are kept.
        folder: where the arrays grow on the disk, and from where a call goes on that was ended before; None
            holds them in memory.
    """

    logits: bool = True
    features: str = "float32"
    folder: Path | None = None

    @classmethod
    def of(cls, settings: ExtractionSettings, folder: Path) -> Stored:
        """As the section `extraction` says."""
        return cls(settings.store == "features+logits", settings.features, folder)


IN_MEMORY = Stored()


def extract(
    model: OpenSetModel,
    data: Ordered,
    *,
    index: IntArray,
    batch_size: int,
    device: torch.device,
    title: str,
    again: Sequence[NetworkAgain] = (),
    stored: Stored = IN_MEMORY,
) -> Outputs:
    """Logits and features of some images, without augmentation, in eval mode.

    Args:
        model: is moved to `device` and put in eval mode.
        data: N images, with labels 0..K-1 known, -1 unknown, -2 background.
        index: (N,) int64, row of each image in the split.
        batch_size: images per forward pass.
        device: where the network runs.
        title: of the step, where a terminal or a log shows how much of it is done.
        again: detectors that need the network again; each gives the outputs its column.
        stored: what is kept, and where.

    Raises:
        InputError: a feature is too large for float16.
    """
    model, index = ready(model, device), np.asarray(index, dtype=np.int64)
    width = model.head.affine()[0].shape[1]
    forms = {"features": Form(np.dtype(stored.features), (len(data), width))}
    forms |= {each.column: Form(np.dtype(np.float64), (len(data), 1)) for each in again}
    plan = [
        code_digest(),
        digest_of(model.origin.model_dump(), source_of(model.settings.backbone.name)),
        digest_of(asdict(model.computing), index, data.labels.cpu().numpy()),
        [batch_size, device.type, {each.name: each.settings() for each in again}],
    ]
    growing = grown_in(stored.folder, forms, plan=plan, chunk=CHUNK)
    advice = f"extraction.batch_size is {batch_size}: try {max(1, batch_size // 2)}"
    steps = Steps(title, len(data), "images", done=growing.done)
    with torch.inference_mode(), memory_advice(advice), steps:
        for images, _ in data.batches(batch_size, start=growing.done):
            _, features = forward(model, images.to(device))
            parts = {"features": _rounded(features.cpu().numpy(), stored.features)}
            for each in again:
                parts[each.column] = each.column_of(model, images.to(device)).cpu().numpy()[:, None]
            growing.add(**parts)
            steps.step(len(images))
    arrays = growing.finished()
    labels = data.labels.cpu().numpy()
    return _outputs(model, arrays, labels=labels, index=index, stored=stored, block=batch_size)


def outputs_of(
    model: OpenSetModel,
    features: FloatArray,
    *,
    labels: IntArray,
    index: IntArray,
    stored: Stored = IN_MEMORY,
) -> Outputs:
    """What `extract` gives, where the features are there already and only the head is to run.

    Args:
        model: whose backbone, neck and `head.embed` made the features.
        features: (N, D) float32.
        labels: (N,) int64.
        index: (N,) int64, row of each image in the split.
        stored: what is kept, and where.

    Raises:
        InputError: a feature is too large for float16.
    """
    arrays = {"features": _rounded(features, stored.features)}
    return _outputs(model.eval(), arrays, labels=labels, index=index, stored=stored, block=CHUNK)


def _outputs(
    model: OpenSetModel,
    arrays: dict[str, NDArray[Any]],
    *,
    labels: IntArray,
    index: IntArray,
    stored: Stored,
    block: int,
) -> Outputs:
    """With the part of the head that stands for known classes; logits in blocks, as from the network."""
    num_classes, features = model.head.num_classes, arrays["features"]
    with torch.no_grad():
        head, offset = model.head.affine()
        weight = head.float().cpu().numpy()
        bias = np.zeros(len(weight), np.float32) if offset is None else offset.float().cpu().numpy()
    logits = LinearLogits(features, weight[:num_classes], bias[:num_classes], block=block)
    extra = LinearLogits(features, weight[num_classes:], bias[num_classes:], block=block)
    return Outputs(
        logits=_kept(logits, stored.folder) if stored.logits else cast(FloatArray, logits),
        features=features,
        labels=labels,
        index=index,
        weight=weight[:num_classes],
        bias=bias[:num_classes],
        extra_logits=np.asarray(extra),
        **{name: arrays[name] for name in ("odin", "rotation") if name in arrays},
        made_from=model.origin,
    )


def _kept(logits: LinearLogits, folder: Path | None) -> FloatArray:
    """As an array."""
    if folder is None:
        return np.asarray(logits)
    folder.mkdir(parents=True, exist_ok=True)
    return write_rows(folder / "logits.npy", Form(logits.dtype, logits.shape), logits.blocks())


def _rounded(features: FloatArray, kind: str) -> NDArray[Any]:
    """As they are kept."""
    if kind == "float16" and np.abs(features).max(initial=0) > np.finfo(np.float16).max:
        raise InputError(
            f"extraction.features is float16, which holds numbers up to 65504, but a feature is "
            f"{np.abs(features).max():g}: set it to float32."
        )
    return features.astype(kind, copy=False)
