"""The training loop, on Lightning Fabric: best epoch by validation accuracy, resumable after any epoch."""

from __future__ import annotations

import copy
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from osr.data.batches import Images
from osr.data.plans import hash_seed, num_batches
from osr.devices import compile_advice, memory_advice, processes_of
from osr.errors import InputError
from osr.training.depthwise import QuickDepthwise, has_depthwise
from osr.training.keeping import EpochCallback, Keeper
from osr.training.optimization import make_optimizer, make_schedule
from osr.training.progress import ProgressBar
from osr.training.settings import TrainSettings
from osr.training.sharding import (
    clip_gradients,
    fabric_of,
    is_sharded,
    shard,
    share_gradients,
    together,
)
from osr.training.state import History as History
from osr.training.state import Progress, TrainingState, average_of, scaler_of
from osr.training.steps import Beside, Step, batch_sizes, groups_of, num_right, totals


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
    rotation_weight: float = 0.0,
    until: int | None = None,
) -> Progress:
    """Fit `model` and leave it in the state of its best epoch.

    With several devices each process runs it; the first alone writes, shows its progress, calls `on_epoch`.

    Args:
        model: images -> (logits, features).
        loss: (logits, features, labels) -> scalar; its parameters are trained, too.
        train_data: training images, on any device: known, and background where the loss wants them.
        val_data: known validation images.
        settings: the `train` section of params.yaml.
        checkpoint: where the state after an epoch is kept (`Keeper`); an existing file is resumed.
        on_epoch: called once an epoch is kept, with its history row and its training images per second.
        num_extra: how many of the last logits belong to extra classes, which accuracy leaves out.
        rotation_weight: of the second head that tells quarter turns; 0 for a model without it.
        until: the epoch after which this call stops, though the settings have more; another goes on.

    Raises:
        InputError: the loss became NaN or infinite, memory or the disk is full, this machine has no such
            devices, or another process of the training ended.
    """
    fabric = fabric_of(settings)
    with processes_of(fabric):
        step = Step(model, loss, Beside.of(settings, rotation_weight))
        run = _Run.start(fabric, step, settings, len(train_data), num_extra)
        progress = run.state.resume(checkpoint)
        done = len(progress.history)
        if fabric.broadcast(done) != done:
            raise InputError(f"{checkpoint} differs between machines: all need the project on a shared disk.")
        train_data, val_data = train_data.to(fabric.device), val_data.to(fabric.device)
        is_first = fabric.global_rank == 0
        bar = ProgressBar(settings.epochs, done=done, num_images=len(train_data), hidden=not is_first)
        keeper = Keeper(run.state, checkpoint, on_epoch, writes=is_first)
        end = settings.epochs if until is None else min(until, settings.epochs)
        with bar:
            for epoch in range(done, end):
                if progress.ends_early(settings):
                    break
                started = time.perf_counter()
                row = run.epoch(epoch, train_data, val_data, bar)
                progress.add(row, run.state.judged, keep=is_first or not run.is_sharded)
                duration_s = time.perf_counter() - started
                progress.elapsed_s = fabric.broadcast(progress.elapsed_s + duration_s)
                bar.epoch(row)
                is_due = keeper.is_due(is_last=epoch + 1 == end or progress.ends_early(settings))
                keeper.add(row, len(train_data) / duration_s, progress, is_due=run.agreed(is_due))
        run.leave(model, loss, progress)
    return progress


def evaluate(
    model: nn.Module, loss: nn.Module, data: Images, *, batch_size: int, num_extra: int = 0
) -> dict[str, float]:
    """Mean loss and accuracy on `data`, as val/loss and val/accuracy."""
    total_loss, correct = totals(Step(model, loss), data.batches(batch_size), num_extra)
    return {"val/loss": total_loss / len(data), "val/accuracy": correct / len(data)}


@dataclass
class _Run:
    """What one process of a training holds; `step` and `optimizer` are Fabric's."""

    fabric: Fabric
    settings: TrainSettings
    state: TrainingState
    step: Step
    optimizer: Optimizer
    num_extra: int
    has_depthwise: bool

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a part of the network, and this run a copy of what it was given."""
        return is_sharded(self.state.model)

    def agreed(self, is_due: bool) -> bool:
        """Whether to keep the state now: where all have to give their part, the first one's clock says so."""
        return bool(self.fabric.broadcast(is_due)) if self.is_sharded else is_due

    @classmethod
    def start(
        cls,
        fabric: Fabric,
        step: Step,
        settings: TrainSettings,
        num_images: int,
        num_extra: int,
    ) -> _Run:
        if settings.channels_last:
            step.model.to(memory_format=torch.channels_last)
        if settings.strategy == "fsdp":  # which changes a network for good
            step = copy.deepcopy(step)
            step.loss.to(fabric.device)
        else:
            step.to(fabric.device)
        average = average_of(step.model, settings.ema_decay)
        ready = fabric.setup_module(torch.compile(step) if settings.compile else step)
        if settings.strategy == "fsdp" and average is not None:
            shard(average.module, fabric.strategy.device_mesh["data_parallel"])
        optimizer = make_optimizer(step.model, settings, loss=step.loss)
        num_steps = -(-cls.num_batches(fabric, settings, num_images) // settings.accumulate_batches)
        state = TrainingState(
            step.model,
            step.loss,
            optimizer,
            make_schedule(optimizer, settings, steps_per_epoch=num_steps),
            average,
            scaler_of(fabric),
        )
        ready_optimizer = fabric.setup_optimizers(optimizer)
        return cls(fabric, settings, state, ready, ready_optimizer, num_extra, has_depthwise(step))

    def leave(self, model: nn.Module, loss: nn.Module, progress: Progress) -> None:
        """Give a network the state of its best epoch, and a loss that of the last one."""
        if self.is_sharded:
            loss.load_state_dict(self.state.loss.state_dict())
        if progress.best_state:  # of a shared network the first process alone keeps it
            model.load_state_dict(progress.best_state)

    @staticmethod
    def num_batches(fabric: Fabric, settings: TrainSettings, num_images: int) -> int:
        return num_batches(num_images, settings.batch_size, fabric.world_size)

    def epoch(self, epoch: int, train_data: Images, val_data: Images, bar: ProgressBar) -> dict[str, float]:
        """Train and validate; the row of the history."""
        size, batches = self.settings.batch_size, self.settings.accumulate_batches
        advice = (
            f"train.batch_size is {size}: try {max(2, size // 2)} with train.accumulate_batches "
            f"{2 * batches}, which makes the same steps"
        )
        row = {"epoch": epoch + 1, "lr": float(self.state.schedule.get_last_lr()[0])}
        with memory_advice(advice), compile_advice(is_compiled=self.settings.compile):
            row |= self._train(epoch, train_data, bar)
            row |= self._validate(val_data)
        if not math.isfinite(row["val/loss"]):
            raise self._diverged(f"the validation loss was NaN or infinite after epoch {epoch + 1}")
        return row

    def _train(self, epoch: int, data: Images, bar: ProgressBar) -> dict[str, float]:
        fabric, settings, state = self.fabric, self.settings, self.state
        # Dropout draws the same in a resumed run, and not the same in each process.
        torch.manual_seed(hash_seed(settings.seed + fabric.global_rank, epoch))
        self.step.train()
        # Summed on the device: asking for a number at each step would make a GPU wait.
        losses, correct = [], torch.zeros((), dtype=torch.int64, device=data.labels.device)
        steps_before = state.schedule.last_epoch
        batches = data.epoch_batches(
            settings, epoch=epoch, rank=fabric.global_rank, world_size=fabric.world_size
        )
        sizes = batch_sizes(len(data), self.num_batches(fabric, settings, len(data)))
        for group in groups_of(batches, settings.accumulate_batches):
            num_images = sum(islice(sizes, len(group)))
            self.optimizer.zero_grad()
            for position, (images, labels) in enumerate(group):
                with self._alone(position < len(group) - 1), self._quick():
                    value, logits = self.step(images, labels)
                    # Processes take the mean of their gradients, whatever the share of images they had.
                    fabric.backward(value * (len(logits) * fabric.world_size / num_images))
                losses.append(value.detach() * len(logits))
                correct += num_right(logits.detach(), labels[: len(logits)], self.num_extra)
            if self.is_sharded:
                share_gradients(state.loss)
            self._clip()
            self.optimizer.step()
            state.schedule.step()
            state.take_in_step()
            bar.step(num_images, value.detach())
        values, right = self._sum(torch.stack(losses)), self._sum(correct)
        if not bool(torch.isfinite(values).all()):
            first = int((~torch.isfinite(values)).nonzero()[0])
            step = steps_before + first // settings.accumulate_batches + 1
            raise self._diverged(f"the loss was NaN or infinite at step {step}, in epoch {epoch + 1}")
        num_known = int((data.labels >= 0).sum())
        return {"train/loss": float(values.sum()) / len(data), "train/accuracy": int(right) / num_known}

    def _clip(self) -> None:
        """Shorten the gradients where a limit is set."""
        limit = self.settings.grad_clip_norm
        if limit and self.is_sharded:
            clip_gradients((*self.state.model.parameters(), *self.state.loss.parameters()), max_norm=limit)
        elif limit:
            chosen = {"max_norm": limit, "error_if_nonfinite": False}
            self.fabric.clip_gradients(self.state.model, self.optimizer, **chosen)

    def _validate(self, data: Images) -> dict[str, float]:
        fabric, judged = self.fabric, self.state.judged
        if fabric.world_size == 1:
            with fabric.autocast():
                chosen = {"batch_size": self.settings.batch_size, "num_extra": self.num_extra}
                return evaluate(judged, self.state.loss, data, **chosen)
        for buffer in (*self.state.model.buffers(), *judged.buffers()):
            torch.distributed.broadcast(buffer, 0)  # norm statistics: those of the process that is kept
        step, size = Step(judged, self.state.loss), self.settings.batch_size
        batches = islice(data.batches(size), fabric.global_rank, None, fabric.world_size)
        num_batches = -(-len(data) // size)
        is_idle = (
            self.is_sharded
            and num_batches % fabric.world_size > 0
            and (fabric.global_rank >= num_batches % fabric.world_size)
        )
        with fabric.autocast(), together(self.state.model, judged):
            sums = totals(step, batches, self.num_extra)
            if is_idle:  # the others need this process for their last batch
                totals(step, islice(data.batches(size), 1), self.num_extra)
        total_loss, correct = self._sum(torch.tensor(sums, device=fabric.device)).tolist()
        return {"val/loss": total_loss / len(data), "val/accuracy": correct / len(data)}

    def _alone(self, alone: bool) -> AbstractContextManager[None]:
        """Let processes keep their gradients to themselves until the last batch of a step.

        Not those of a shared network: each would hold all of them.
        """
        if self.fabric.world_size == 1 or self.is_sharded:
            return nullcontext()
        quiet: AbstractContextManager[None] = self.fabric.no_backward_sync(self.step, enabled=alone)
        return quiet

    def _quick(self) -> AbstractContextManager[object]:
        """What makes CPUs faster, but would stop torch.compile."""
        wanted = not self.settings.compile and self.has_depthwise
        return QuickDepthwise() if wanted else nullcontext()

    def _sum(self, values: Tensor) -> Tensor:
        """Over all processes."""
        total: Tensor = self.fabric.all_reduce(values, reduce_op="sum")
        return total

    def _diverged(self, what: str) -> InputError:
        return InputError(
            f"Training diverged: {what}; train.lr is {self.settings.lr:g}: try a tenth of it, "
            f"more than {self.settings.warmup_epochs} train.warmup_epochs, or train.precision 32-true."
        )
