"""Stage train: fit backbone, neck and head on the training images; keep the best epoch.

With several devices each process runs this module; the first alone writes files and the MLflow row.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from osr.data.batches import Images
from osr.data.plans import hash_seed
from osr.devices import check_launched, limited_threads, num_launched, pick_device, set_cpu_threads
from osr.errors import InputError
from osr.losses.registry import build_loss, check_background, check_soft_labels
from osr.models.computing import Computing
from osr.models.given import give_head, given_model
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat, format_for, frame_for, needs_statistics
from osr.outputs import BACKGROUND, FloatArray, IntArray
from osr.params import Params, load_params
from osr.progress import announce, on_terminal
from osr.settings.own_code import source_of
from osr.splits.split import Split
from osr.stored.digests import code_digest
from osr.stored.origin import Origin
from osr.training.freezing import freeze_backbone
from osr.training.frozen import as_given, features_of, probe
from osr.training.keeping import EpochCallback
from osr.training.loop import History, train
from osr.training.state import Progress
from pipeline.entry import Metrics, logger, run_stage
from pipeline.images import open_part, sample_images
from pipeline.tracking.stage_run import Row
from pipeline.tracking.system_metrics import system_metrics
from pipeline.workspace.own_files import check_deps
from pipeline.workspace.place import is_helper, workspace_root
from pipeline.workspace.stages import FEATURES, HISTORY, INITIAL_WEIGHTS, MODEL, PARAMS, SPLIT, WEIGHTS
from pipeline.workspace.swap import afterwards, new

CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")


def train_stage(params: Params, row: Row) -> Metrics:
    """Write weights and history; return the numbers of the best epoch."""
    unit = "penalty" if params.train.regime == "probe" else "epoch"
    model, progress, checkpoint = fit(params, epoch_logger(row, unit))
    new(MODEL).mkdir(parents=True, exist_ok=True)
    model.save(new(WEIGHTS))
    write_history(progress.history)
    weights = params.model.backbone.weights
    if digest := digest_of_file(weights):
        text = json.dumps({"path": weights, "sha256": digest})
        new(INITIAL_WEIGHTS).write_text(f"{text}\n", encoding="utf-8")
    afterwards(partial(checkpoint.unlink, missing_ok=True))
    best = progress.history[progress.best_epoch - 1]
    return {
        "best": {
            "epoch": progress.best_epoch,
            "val_accuracy": best["val/accuracy"],
            "val_loss": best["val/loss"],
        },
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def epoch_logger(row: Row, unit: str) -> EpochCallback:
    """What shows each epoch, or penalty of a probe (`unit`), in the row: numbers, speed, the machine."""

    def log_epoch(values: dict[str, float], images_per_s: float) -> None:
        if not on_terminal():  # there the progress bar tells
            logger.info(
                "train: %s %d, loss %.3f, accuracy %.3f; validation loss %.3f, accuracy %.3f",
                unit,
                *(values[key] for key in ("epoch", *CURVES)),
            )
        curves = {name: value for name, value in values.items() if name != "epoch"}
        speed = {"speed/images_per_s": images_per_s} if images_per_s else {}
        row.log_epoch(int(values["epoch"]), {**curves, **speed, **system_metrics()})

    return log_epoch


def fit(params: Params, on_epoch: EpochCallback) -> tuple[OpenSetModel, Progress, Path]:
    """The trained model, how its training went, and where its state is kept."""
    set_cpu_threads(params.train.cpu_threads)
    split = Split.load(SPLIT)
    labels = split.labels[split.train]
    check_deps("train", [params.train.loss])
    pseudo = params.train.augmentation.pseudo_unknowns != "none"
    check_background(params.train.loss, int((labels == BACKGROUND).sum()), pseudo_unknowns=pseudo)
    check_soft_labels(params.train.loss, mixing=params.train.augmentation.mixes)
    # What the detectors need is no param of this stage: it stops a training in vain and changes none.
    params.check_training_images(split.training_counts())
    checkpoint = checkpoint_path(params, split.digest)
    if checkpoint.is_file():
        logger.info("train: going on with an interrupted training")
    torch.manual_seed(hash_seed(params.train.seed, -1))  # the initial weights
    settings = params.model
    rows = split.train if needs_statistics(settings) else split.train[:1]
    image_format = format_for(settings, sample_images(rows, lambda: frame_for(settings, None)))
    made_from = Origin(split=split.digest)
    model = starting_model(params, image_format, split.known_names, made_from)
    frame = model.image_format.frame

    def part(rows: IntArray) -> Images:
        return open_part(split, rows, frame=frame, num_workers=params.train.num_workers)

    if params.train.is_frozen:
        logger.info("train: one forward pass, then the head alone; settings of epochs do not count")
        features = frozen_parts(model, split, part, params)
        with limited_threads(params.train.cpu_threads):
            if params.train.regime == "none":
                progress = as_given(model, features["train"], features["val"])
            else:
                progress = probe(model, features["train"], features["val"], params.train.probe)
        for row in progress.history:
            on_epoch(row, 0.0)
        return model, progress, checkpoint
    if params.train.regime == "tune_last":
        freeze_backbone(model, settings.backbone.frozen_stages)
    progress = train(
        model,
        loss_of(params, model, np.bincount(labels[labels >= 0], minlength=len(split.known))),
        train_data=part(split.train),
        val_data=part(split.known_rows("val")),
        settings=params.train,
        checkpoint=checkpoint,
        num_extra=params.model.head.extra_classes,
        rotation_weight=params.rotation_weight,
        on_epoch=on_epoch,
    )
    if params.train.loss == "supcon":
        features = frozen_parts(model, split, part, params)
        with limited_threads(params.train.cpu_threads):
            second = probe(model, features["train"], features["val"], params.train.probe)
        on_epoch(progress.end_with(second), 0.0)
    return model, progress, checkpoint


def loss_of(params: Params, model: OpenSetModel, counts: IntArray) -> nn.Module:
    """The loss that the settings name, for this network and so many training images of each class."""
    return build_loss(
        params.train.loss,
        params.losses,
        label_smoothing=params.train.label_smoothing,
        head=model.head,
        class_counts=counts.tolist(),
    )


def starting_model(
    params: Params, image_format: ImageFormat, class_names: tuple[str, ...], made_from: Origin
) -> OpenSetModel:
    """The model that learns from here on, or in regime none the one that somebody trained.

    Raises:
        InputError: regime none, and the network does not tell the known classes apart, or nobody says how the
            images it was trained with were normalised.
    """
    settings, regime = params.model, params.train.regime
    in_bfloat16 = params.extraction.precision == "bf16-mixed"
    computing = Computing(params.extraction.channels_last, in_bfloat16)
    if regime == "none":
        backbone = settings.backbone
        whole = given_model(Path(backbone.weights), class_names, made_from, backbone.name)
        if whole is not None:
            whole.computing = computing
            return whole
        if needs_statistics(settings):
            raise InputError(
                "model.image.mean and model.image.std are [], but must say how the images were normalised "
                f"that {backbone.name} was trained with, while train.regime is 'none'; [0.0] and [1.0] "
                "leave pixels between 0 and 1."
            )
    model = OpenSetModel(settings, image_format, class_names, made_from=made_from, computing=computing)
    if regime == "none":
        give_head(model)
    return model


def frozen_parts(
    model: OpenSetModel, split: Split, part: Callable[[IntArray], Images], params: Params
) -> dict[str, tuple[FloatArray, IntArray]]:
    """Features and labels of the images that the head is fitted to, and of those that choose among fits."""
    rows = {"train": split.train, "val": split.known_rows("val")}
    return {name: frozen_part(model, name, part(each), each, params) for name, each in rows.items()}


def frozen_part(
    model: OpenSetModel, name: str, data: Images, rows: IntArray, params: Params
) -> tuple[FloatArray, IntArray]:
    """Features and labels of a part; the features are kept for the stages that follow."""
    title = f"forward pass, {name}"
    announce(title, len(rows), "images")
    features = features_of(
        model,
        data,
        batch_size=params.train.batch_size,
        device=pick_device(params.train.accelerator),
        title=title,
    )
    folder = new(FEATURES / name)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "index.npy", rows, allow_pickle=False)
    np.save(folder / "features.npy", features, allow_pickle=False)
    return features, data.labels.numpy()


def help_training() -> None:
    """Take part in a training that another process leads, and leave no trace."""
    params = load_params(PARAMS)
    if not params.train.is_frozen:
        fit(params, lambda _row, _rate: None)


def checkpoint_path(params: Params, split_digest: str) -> Path:
    """Where this training keeps its state: another setting, split or line of code is another training."""
    content = hashlib.sha256()
    settings = [section.model_dump(mode="json") for section in (params.model, params.train, params.losses)]
    content.update(json.dumps([settings, split_digest]).encode())
    content.update(code_digest().encode())
    for name in (params.model.backbone.name, params.train.loss):
        content.update(source_of(name))
    content.update(digest_of_file(params.model.backbone.weights).encode())
    return workspace_root() / ".osr" / "checkpoints" / f"{content.hexdigest()[:16]}.pt"


def digest_of_file(weights: str) -> str:
    """The sha256 of a local weights file; empty where `model.backbone.weights` names none."""
    if weights in ("none", "pretrained") or not Path(weights).is_file():
        return ""
    with Path(weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_history(history: History) -> None:
    """One line per epoch."""
    with new(HISTORY).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def main() -> None:
    """The command of each process; with other settings than torchrun's it ends before it writes anything."""
    try:
        if (launched := num_launched()) is not None:
            settings = load_params(PARAMS).train
            check_launched(
                launched,
                accelerator=settings.accelerator,
                devices=settings.devices,
                num_nodes=settings.num_nodes,
            )
        if is_helper():
            help_training()
        else:
            run_stage("train", train_stage, __doc__)
    except InputError as error:
        sys.exit(f"ERROR: {error}")


if __name__ == "__main__":
    main()
