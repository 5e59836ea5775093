"""A network that learns for `osr.held_out`, without files of a stage and without a row of MLflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from osr.data.batches import Images
from osr.devices import limited_threads, pick_device
from osr.losses.registry import build_loss
from osr.models.open_set_model import OpenSetModel
from osr.outputs import FloatArray, IntArray
from osr.params import Params
from osr.training.freezing import freeze_backbone
from osr.training.frozen import features_of, probe
from osr.training.loop import train


def train_network(
    model: OpenSetModel, train_data: Images, val_data: Images, params: Params, state: Path, until: int | None
) -> None:
    """Fit the model as stage train does, to the end or until an epoch.

    Args:
        model: with its initial weights.
        train_data: training images.
        val_data: known validation images.
        params: all settings.
        state: file of the training's state.
        until: an epoch, or None.

    Raises:
        InputError: as `osr.training.loop.train`.
    """
    if params.train.regime == "tune_last":
        freeze_backbone(model, params.model.backbone.frozen_stages)
    labels = train_data.labels.numpy()
    loss = build_loss(
        params.train.loss,
        params.losses,
        label_smoothing=params.train.label_smoothing,
        head=model.head,
        class_counts=np.bincount(labels[labels >= 0], minlength=model.head.num_classes).tolist(),
    )
    train(
        model,
        loss,
        train_data=train_data,
        val_data=val_data,
        settings=params.train,
        checkpoint=state,
        num_extra=params.model.head.extra_classes,
        rotation_weight=params.rotation_weight,
        on_epoch=lambda _row, _rate: None,
        until=until,
    )
    if params.train.loss == "supcon" and until is None:
        probe_head(model, train_data, val_data, params)


def probe_head(model: OpenSetModel, train_data: Images, val_data: Images, params: Params) -> None:
    """Fit the head on features of a backbone that learns nothing."""
    device = pick_device(params.train.accelerator)

    def found(data: Images) -> tuple[FloatArray, IntArray]:
        size = params.train.batch_size
        features = features_of(model, data, batch_size=size, device=device, title="forward pass")
        return features, data.labels.numpy()

    fitted, judging = found(train_data), found(val_data)
    with limited_threads(params.train.cpu_threads):
        probe(model, fitted, judging, params.train.probe)
