"""The training loop, on Lightning Fabric: best epoch by validation accuracy, resumable after any epoch."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from osr.config import TrainSettings
from osr.data.batches import TensorImages, epoch_batches, hash_seed, num_batches
from osr.devices import make_fabric
from osr.errors import InputError
from osr.optimization import make_optimizer, make_schedule

History = list[dict[str, float]]
EpochCallback = Callable[[dict[str, float], float], None]


@dataclass
class Progress:
    """Where a training stands after whole epochs.

    Args:
        history: a row per epoch: epoch (from 1), lr, and train/ and val/ loss and accuracy.
        best_epoch: the epoch with the highest validation accuracy; among equals the latest, which has
            learned longest.
        best_state: the model's state dict after that epoch.
    """

    history: History = field(default_factory=list)
    best_epoch: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)

    def add(self, row: dict[str, float], model: nn.Module) -> None:
        """Take in one epoch."""
        self.history.append(row)
        best = self.history[self.best_epoch - 1]["val/accuracy"] if self.best_epoch else 0.0
        if row["val/accuracy"] >= best:
            self.best_epoch = len(self.history)
            self.best_state = {
                name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()
            }


def train(
    model: nn.Module,
    loss: nn.Module,
    *,
    train_data: TensorImages,
    val_data: TensorImages,
    settings: TrainSettings,
    checkpoint: Path,
    on_epoch: EpochCallback,
) -> Progress:
    """Fit `model` and leave it in the state of its best epoch.

    Args:
        model: images -> (logits, features).
        loss: (logits, features, labels) -> scalar.
        train_data: known training images, on any device.
        val_data: known validation images.
        settings: the `train` section of params.yaml.
        checkpoint: where the state after each epoch is kept; an existing file is resumed.
        on_epoch: called after each epoch with its history row and its training images per second.

    Raises:
        InputError: the loss became NaN or infinite, or this machine has no such accelerator.
    """
    fabric = make_fabric(settings.accelerator, precision=settings.precision)
    optimizer = make_optimizer(model, settings)
    schedule = make_schedule(
        optimizer, settings, steps_per_epoch=num_batches(len(train_data), settings.batch_size)
    )
    progress = _resume(checkpoint, model, optimizer, schedule)
    fabric_model, fabric_optimizer = fabric.setup(model, optimizer)
    train_data, val_data = (
        TensorImages(fabric.to_device(data.images), fabric.to_device(data.labels))
        for data in (train_data, val_data)
    )
    done = len(progress.history)
    with tqdm(total=settings.epochs, initial=done, desc="train", unit="epoch", disable=None) as bar:
        for epoch in range(done, settings.epochs):
            started, lr = time.perf_counter(), float(schedule.get_last_lr()[0])
            row = {"epoch": epoch + 1, "lr": lr}
            row |= _train_epoch(
                fabric, fabric_model, loss, fabric_optimizer, schedule, train_data, settings, epoch
            )
            row |= evaluate(fabric_model, loss, val_data, batch_size=settings.batch_size)
            if not math.isfinite(row["val/loss"]):
                raise _diverged(f"the validation loss was NaN or infinite after epoch {epoch + 1}", settings)
            progress.add(row, model)
            _save(checkpoint, progress, model, optimizer, schedule)
            rate = len(train_data) / (time.perf_counter() - started)
            shown = {"loss": row["train/loss"], "val_accuracy": row["val/accuracy"], "images/s": round(rate)}
            bar.set_postfix(shown)
            bar.update()
            on_epoch(row, rate)
    model.load_state_dict(progress.best_state)
    return progress


def evaluate(model: nn.Module, loss: nn.Module, data: TensorImages, *, batch_size: int) -> dict[str, float]:
    """Mean loss and accuracy on `data`, as val/loss and val/accuracy."""
    model.eval()
    total_loss, correct = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(data), batch_size):
            labels = data.labels[start : start + batch_size]
            logits, features = model(data.images[start : start + batch_size])
            total_loss += float(loss(logits, features, labels)) * len(labels)
            correct += int((logits.argmax(1) == labels).sum())
    return {"val/loss": total_loss / len(data), "val/accuracy": correct / len(data)}


def _train_epoch(
    fabric: Fabric,
    model: nn.Module,
    loss: nn.Module,
    optimizer: Optimizer,
    schedule: LambdaLR,
    data: TensorImages,
    settings: TrainSettings,
    epoch: int,
) -> dict[str, float]:
    torch.manual_seed(hash_seed(settings.seed, epoch))  # dropout: the same in a resumed run
    model.train()
    # Summed on the device: asking for a number at each step would make a GPU wait.
    losses, correct = [], torch.zeros((), dtype=torch.int64, device=data.labels.device)
    for images, labels in epoch_batches(data, settings, epoch=epoch):
        logits, features = model(images)
        value = loss(logits, features, labels)
        optimizer.zero_grad()
        fabric.backward(value)
        optimizer.step()
        schedule.step()
        losses.append(value.detach() * len(labels))
        correct += (logits.detach().argmax(1) == labels).sum()
    steps = torch.stack(losses)
    if not bool(torch.isfinite(steps).all()):
        step = int((~torch.isfinite(steps)).nonzero()[0]) + epoch * len(losses) + 1
        raise _diverged(f"the loss was NaN or infinite at step {step}, in epoch {epoch + 1}", settings)
    return {"train/loss": float(steps.sum()) / len(data), "train/accuracy": int(correct) / len(data)}


def _diverged(what: str, settings: TrainSettings) -> InputError:
    return InputError(
        f"Training diverged: {what}; train.lr is {settings.lr:g}: try a tenth of it, "
        f"more than {settings.warmup_epochs} train.warmup_epochs, or train.precision 32-true."
    )


def _save(path: Path, progress: Progress, model: nn.Module, optimizer: Optimizer, schedule: LambdaLR) -> None:
    """Keep the state of a training, whole or not at all."""
    state = {
        "history": progress.history,
        "best_epoch": progress.best_epoch,
        "best_state": progress.best_state,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.part")  # two experiments may train the same network at once
    torch.save(state, aside)
    aside.replace(path)


def _resume(path: Path, model: nn.Module, optimizer: Optimizer, schedule: LambdaLR) -> Progress:
    """Take up a kept state; a fresh `Progress` where there is none."""
    if not path.is_file():
        return Progress()
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return Progress(state["history"], state["best_epoch"], state["best_state"])
