"""The training loop, on Lightning Fabric: best epoch by validation accuracy, resumable after any epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from osr.data.batches import Images, hash_seed, num_batches
from osr.devices import make_fabric
from osr.errors import InputError
from osr.optimization import make_optimizer, make_schedule
from osr.train_settings import TrainSettings
from osr.training_state import History as History
from osr.training_state import Progress, TrainingState, average_of

Batch = tuple[Tensor, Tensor]
EpochCallback = Callable[[dict[str, float], float], None]


def train(
    model: nn.Module,
    loss: nn.Module,
    *,
    train_data: Images,
    val_data: Images,
    settings: TrainSettings,
    checkpoint: Path,
    on_epoch: EpochCallback,
    num_extra: int = 0,
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
        num_extra: how many of the last logits belong to extra classes, which accuracy leaves out.

    Raises:
        InputError: the loss became NaN or infinite, or this machine has no such accelerator.
    """
    fabric = make_fabric(settings.accelerator, precision=settings.precision)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    num_steps = -(-num_batches(len(train_data), settings.batch_size) // settings.accumulate_batches)
    state = _make_state(model.to(fabric.device), loss.to(fabric.device), settings, num_steps)
    progress = state.resume(checkpoint)
    fabric_model, fabric_optimizer = fabric.setup(model, state.optimizer)
    judged = fabric_model if state.average is None else state.judged
    train_data, val_data = train_data.to(fabric.device), val_data.to(fabric.device)
    done = len(progress.history)
    with tqdm(total=settings.epochs, initial=done, desc="train", unit="epoch", disable=None) as bar:
        for epoch in range(done, settings.epochs):
            if progress.ends_early(settings):
                break
            started, lr = time.perf_counter(), float(state.schedule.get_last_lr()[0])
            row = {"epoch": epoch + 1, "lr": lr}
            row |= _train_epoch(
                fabric, fabric_model, fabric_optimizer, state, train_data, settings, epoch, num_extra
            )
            row |= evaluate(judged, loss, val_data, batch_size=settings.batch_size, num_extra=num_extra)
            if not math.isfinite(row["val/loss"]):
                raise _diverged(f"the validation loss was NaN or infinite after epoch {epoch + 1}", settings)
            progress.add(row, state.judged)
            duration_s = time.perf_counter() - started
            progress.elapsed_s += duration_s
            state.save(checkpoint, progress)
            rate = len(train_data) / duration_s
            shown = {"loss": row["train/loss"], "val_accuracy": row["val/accuracy"], "images/s": round(rate)}
            bar.set_postfix(shown)
            bar.update()
            on_epoch(row, rate)
    model.load_state_dict(progress.best_state)
    return progress


def evaluate(
    model: nn.Module, loss: nn.Module, data: Images, *, batch_size: int, num_extra: int = 0
) -> dict[str, float]:
    """Mean loss and accuracy on `data`, as val/loss and val/accuracy."""
    model.eval()
    loss.eval()
    total_loss, correct = 0.0, 0
    with torch.no_grad():
        for images, labels in data.batches(batch_size):
            logits, features = model(images)
            total_loss += float(loss(logits, features, labels)) * len(labels)
            correct += int(_num_right(logits, labels, num_extra))
    return {"val/loss": total_loss / len(data), "val/accuracy": correct / len(data)}


def _make_state(
    model: nn.Module, loss: nn.Module, settings: TrainSettings, steps_per_epoch: int
) -> TrainingState:
    optimizer = make_optimizer(model, settings, loss=loss)
    schedule = make_schedule(optimizer, settings, steps_per_epoch=steps_per_epoch)
    return TrainingState(model, loss, optimizer, schedule, average_of(model, settings.ema_decay))


def _train_epoch(
    fabric: Fabric,
    model: nn.Module,
    optimizer: Optimizer,
    state: TrainingState,
    data: Images,
    settings: TrainSettings,
    epoch: int,
    num_extra: int,
) -> dict[str, float]:
    torch.manual_seed(hash_seed(settings.seed, epoch))  # dropout: the same in a resumed run
    model.train()
    state.loss.train()
    # Summed on the device: asking for a number at each step would make a GPU wait.
    losses, correct = [], torch.zeros((), dtype=torch.int64, device=data.labels.device)
    steps_before = state.schedule.last_epoch
    for batches in _groups(data.epoch_batches(settings, epoch=epoch), settings.accumulate_batches):
        num_images = sum(len(labels) for _, labels in batches)
        optimizer.zero_grad()
        for images, labels in batches:
            logits, features = model(images)
            value = state.loss(logits, features, labels)
            fabric.backward(value * (len(labels) / num_images))
            losses.append(value.detach() * len(labels))
            correct += _num_right(logits.detach(), labels, num_extra)
        if settings.grad_clip_norm:
            fabric.clip_gradients(
                model, optimizer, max_norm=settings.grad_clip_norm, error_if_nonfinite=False
            )
        optimizer.step()
        state.schedule.step()
        state.take_in_step()
    values = torch.stack(losses)
    if not bool(torch.isfinite(values).all()):
        first = int((~torch.isfinite(values)).nonzero()[0])
        step = steps_before + first // settings.accumulate_batches + 1
        raise _diverged(f"the loss was NaN or infinite at step {step}, in epoch {epoch + 1}", settings)
    num_known = int((data.labels >= 0).sum())
    return {"train/loss": float(values.sum()) / len(data), "train/accuracy": int(correct) / num_known}


def _num_right(logits: Tensor, labels: Tensor, num_extra: int) -> Tensor:
    """How many images have their class, of a mixed image the larger one, ahead of the other known ones."""
    classes = labels if labels.ndim == 1 else labels.argmax(dim=1)
    return (logits[:, : logits.shape[1] - num_extra].argmax(dim=1) == classes).sum()


def _groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of `size` batches in a row; the last may be shorter."""
    while group := list(islice(batches, size)):
        yield group


def _diverged(what: str, settings: TrainSettings) -> InputError:
    return InputError(
        f"Training diverged: {what}; train.lr is {settings.lr:g}: try a tenth of it, "
        f"more than {settings.warmup_epochs} train.warmup_epochs, or train.precision 32-true."
    )
