"""The training loop, on Lightning Fabric: best epoch by validation accuracy of knowns, resumable after any epoch."""

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
from tqdm import tqdm

from osr.config import TrainSettings
from osr.data.batches import TensorImages, epoch_batches, hash_seed
from osr.errors import InputError

History = list[dict[str, float]]


@dataclass
class Progress:
    """Where a training stands after whole epochs.

    Args:
        history: one row per epoch: epoch (from 1), lr, train/loss, train/accuracy, val/loss, val/accuracy.
        best_epoch: the epoch with the highest validation accuracy; among equals the lowest validation loss.
        best_state: the model's state dict after that epoch.
    """

    history: History = field(default_factory=list)
    best_epoch: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)

    def add(self, row: dict[str, float], model: nn.Module) -> None:
        """Take in one epoch."""
        self.history.append(row)
        best = self.history[self.best_epoch - 1] if self.best_epoch else None
        if best is None or (row["val/accuracy"], -row["val/loss"]) > (
            best["val/accuracy"],
            -best["val/loss"],
        ):
            self.best_epoch = len(self.history)
            self.best_state = {
                name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()
            }


def make_fabric(settings: TrainSettings) -> Fabric:
    """One device in the wanted precision."""
    return Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)


def train(
    model: nn.Module,
    loss: nn.Module,
    *,
    train_data: TensorImages,
    val_data: TensorImages,
    settings: TrainSettings,
    checkpoint: Path,
    on_epoch: Callable[[dict[str, float], float], None],
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
        InputError: the loss became NaN or infinite.
    """
    fabric = make_fabric(settings)
    optimizer = make_optimizer(model, settings)
    num_batches = -(-len(train_data) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_factor(step, num_batches, settings)
    )
    progress = _resume(checkpoint, model, optimizer, schedule)
    fabric_model, fabric_optimizer = fabric.setup(model, optimizer)
    train_data, val_data = (
        TensorImages(fabric.to_device(data.images), fabric.to_device(data.labels))
        for data in (train_data, val_data)
    )
    bar = tqdm(total=settings.epochs, initial=len(progress.history), desc="train", unit="epoch", disable=None)
    for epoch in range(len(progress.history), settings.epochs):
        started, lr = time.perf_counter(), schedule.get_last_lr()[0]
        measured = _train_epoch(
            fabric, fabric_model, loss, fabric_optimizer, schedule, train_data, settings=settings, epoch=epoch
        )
        row = {
            "epoch": epoch + 1,
            "lr": lr,
            **measured,
            **evaluate(fabric_model, loss, val_data, settings.batch_size),
        }
        progress.add(row, model)
        _save(checkpoint, progress, model, optimizer, schedule)
        rate = len(train_data) / (time.perf_counter() - started)
        bar.update()
        bar.set_postfix(
            loss=f"{row['train/loss']:.3f}", val_acc=f"{row['val/accuracy']:.4f}", img_s=f"{rate:.0f}"
        )
        on_epoch(row, rate)
    bar.close()
    model.load_state_dict(progress.best_state)
    return progress


def lr_factor(step: int, steps_per_epoch: int, settings: TrainSettings) -> float:
    """Linear warm-up, then cosine to zero: the factor on `lr` at an optimiser step counted from 0."""
    warmup, total = settings.warmup_epochs * steps_per_epoch, settings.epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW or SGD with Nesterov momentum; norms and biases are not decayed."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0)


def evaluate(model: nn.Module, loss: nn.Module, data: TensorImages, batch_size: int) -> dict[str, float]:
    """Mean loss and accuracy on `data`, as val/loss and val/accuracy."""
    model.eval()
    total_loss, correct = 0.0, 0
    with torch.no_grad():
        for images, labels in zip(data.images.split(batch_size), data.labels.split(batch_size), strict=True):
            logits, features = model(images)
            total_loss += float(loss(logits, features, labels)) * len(labels)
            correct += int((logits.argmax(1) == labels).sum())
    return {"val/loss": total_loss / len(data), "val/accuracy": correct / len(data)}


def _train_epoch(
    fabric: Fabric,
    model: nn.Module,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    data: TensorImages,
    *,
    settings: TrainSettings,
    epoch: int,
) -> dict[str, float]:
    torch.manual_seed(hash_seed(settings.seed, epoch))  # dropout: the same in a resumed run
    model.train()
    batches = epoch_batches(
        data,
        batch_size=settings.batch_size,
        shift_pixels=settings.shift_pixels,
        seed=settings.seed,
        epoch=epoch,
    )
    # Summed on the device: asking for a number at each step would make a GPU wait.
    losses, correct = [], torch.zeros((), dtype=torch.int64, device=data.labels.device)
    for images, labels in batches:
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
        step = int((~torch.isfinite(steps)).nonzero()[0]) + epoch * len(losses)
        raise InputError(
            f"training diverged: the loss was NaN or infinite at step {step} (epoch {epoch + 1}), where lr is "
            f"{settings.lr:g}; try a tenth of train.lr, more train.warmup_epochs, or precision 32-true."
        )
    return {"train/loss": float(steps.sum()) / len(data), "train/accuracy": int(correct) / len(data)}


def _save(
    path: Path,
    progress: Progress,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Keep the state of a training, whole or not at all."""
    state = {
        "history": progress.history,
        "best_epoch": progress.best_epoch,
        "best_state": progress.best_state,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": {"last_epoch": schedule.last_epoch},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    torch.save(state, aside)
    os.replace(aside, path)


def _resume(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> Progress:
    """Take up a kept state; a fresh `Progress` where there is none."""
    if not path.is_file():
        return Progress()
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return Progress(state["history"], state["best_epoch"], state["best_state"])
