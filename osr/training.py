"""The training loop, on Lightning Fabric: best epoch by validation accuracy, resumable after any epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from osr.data.batches import TensorImages, epoch_batches, hash_seed, num_batches
from osr.devices import make_fabric
from osr.errors import InputError
from osr.optimization import make_optimizer, make_schedule
from osr.train_settings import TrainSettings
from osr.training_state import History as History
from osr.training_state import Progress, TrainingState

EpochCallback = Callable[[dict[str, float], float], None]


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
        loss: (logits, features, labels) -> scalar; its parameters are trained, too.
        train_data: training images, on any device: known, and background where the loss wants them.
        val_data: known validation images.
        settings: the `train` section of params.yaml.
        checkpoint: where the state after each epoch is kept; an existing file is resumed.
        on_epoch: called after each epoch with its history row and its training images per second.

    Raises:
        InputError: the loss became NaN or infinite, or this machine has no such accelerator.
    """
    fabric = make_fabric(settings.accelerator, precision=settings.precision)
    loss = loss.to(fabric.device)
    optimizer = make_optimizer(model, settings, loss=loss)
    schedule = make_schedule(
        optimizer, settings, steps_per_epoch=num_batches(len(train_data), settings.batch_size)
    )
    state = TrainingState(model, loss, optimizer, schedule)
    progress = state.resume(checkpoint)
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
            state.save(checkpoint, progress)
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
    num_known = int((data.labels >= 0).sum())
    return {"train/loss": float(steps.sum()) / len(data), "train/accuracy": int(correct) / num_known}


def _diverged(what: str, settings: TrainSettings) -> InputError:
    return InputError(
        f"Training diverged: {what}; train.lr is {settings.lr:g}: try a tenth of it, "
        f"more than {settings.warmup_epochs} train.warmup_epochs, or train.precision 32-true."
    )
