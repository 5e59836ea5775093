"""Where a training stands after whole epochs, and the file it is resumed from."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import pickle
import platform
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from osr.errors import InputError
from osr.training.settings import TrainSettings
from osr.training.sharding import own_part, shared_state, whole

logger = logging.getLogger("osr")

History = list[dict[str, float]]

# What reading a file that is no state of this training raises.
_DAMAGE = (
    AttributeError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass
class Progress:
    """What a training has brought so far.

    Args:
        history: a row per epoch: epoch (from 1), lr, and train/ and val/ loss and accuracy.
        best_epoch: the epoch with the highest validation accuracy; among equals the latest, which has
            learned longest.
        best_state: the model's state dict after that epoch.
        elapsed_s: seconds spent in epochs, those before an interruption included.
    """

    history: History = field(default_factory=list)
    best_epoch: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    elapsed_s: float = 0.0

    def add(self, row: dict[str, float], model: nn.Module, *, keep: bool = True) -> None:
        """Take in one epoch; with `keep` false another process keeps the weights, see `whole`."""
        self.history.append(row)
        best = self.history[self.best_epoch - 1]["val/accuracy"] if self.best_epoch else 0.0
        if row["val/accuracy"] >= best:
            self.best_epoch = len(self.history)
            state = whole(model.state_dict(), keep=keep)
            self.best_state = {name: _copy(tensor) for name, tensor in state.items()} if keep else {}

    def end_with(self, second: Progress) -> dict[str, float]:
        """Take in a second phase, whose best fit becomes one more row of the history, the best; that row."""
        found = second.history[second.best_epoch - 1]
        row = {name: found.get(name, 0.0) for name in self.history[0]} | {"epoch": len(self.history) + 1}
        self.history.append(row)
        self.best_epoch = len(self.history)
        return row

    def ends_early(self, settings: TrainSettings) -> bool:
        """Whether patience or time is used up."""
        accuracies = [row["val/accuracy"] for row in self.history]
        waited = len(accuracies) - 1 - accuracies.index(max(accuracies)) if accuracies else 0
        impatient = bool(settings.patience) and waited >= settings.patience
        return impatient or bool(settings.max_time_s and self.elapsed_s >= settings.max_time_s)


@dataclass
class TrainingState:
    """All that changes while training.

    Args:
        model: the network.
        loss: may own parameters.
        optimizer: of both.
        schedule: of the optimiser.
        average: moving average of the model's weights; None where there is none.
        scaler: of the loss, in 16-mixed precision alone.

    What is drawn at random, and the place in the data, follow from seed and epoch (`osr.data.plans`).
    """

    model: nn.Module
    loss: nn.Module
    optimizer: Optimizer
    schedule: LambdaLR
    average: AveragedModel | None
    scaler: torch.amp.GradScaler | None

    def take_in_step(self) -> None:
        """Let the average follow a step of the optimiser."""
        if self.average is not None:
            self.average.update_parameters(self.model)

    @property
    def judged(self) -> nn.Module:
        """The weights that are validated and kept: the average, or the model's own."""
        if self.average is None:
            return self.model
        averaged: nn.Module = self.average.module
        return averaged

    def save(self, path: Path, progress: Progress, *, writes: bool = True) -> None:
        """Keep this state and `progress`, whole or not at all.

        Args:
            path: of the file.
            progress: what the training has brought so far.
            writes: False for processes that only give their part of the state.

        Raises:
            InputError: it cannot be written; the state of the epoch before stays.
        """
        parts = {name: whole(part.state_dict(), keep=writes) for name, part in self._parts().items()}
        if not writes:
            return
        state = {**vars(progress), **parts}
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two experiments may train the same network at once.
        aside = path.with_suffix(f".{platform.node()}.{os.getpid()}.part")
        try:
            with aside.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except (OSError, RuntimeError) as error:
            aside.unlink(missing_ok=True)
            reason = " ".join(str(error).split()[:20])
            raise InputError(
                f"The training could not be kept after epoch {len(progress.history)} in {path.parent} "
                f"({reason}): make room there; the next run goes on after the last kept epoch."
            ) from error

    def resume(self, path: Path) -> Progress:
        """Take up a kept state; a fresh `Progress` without one; a damaged one is set aside."""
        _clear_abandoned(path)
        if not path.is_file():
            return Progress()
        fresh = {name: copy.deepcopy(part.state_dict()) for name, part in self._parts().items()}
        try:
            state = _read(path)
            for name, part in self._parts().items():
                part.load_state_dict(shared_state(part, state[name]))
            return Progress(**{name: state[name] for name in vars(Progress())})
        except _DAMAGE as error:
            for name, part in self._parts().items():
                part.load_state_dict(fresh[name])
            _set_aside(path, error)
            return Progress()

    def _parts(self) -> dict[str, Any]:
        return {name: part for name, part in vars(self).items() if part is not None}


def _read(path: Path) -> dict[str, Any]:
    """A kept state whose every byte is as it was written."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} was changed")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _set_aside(path: Path, error: Exception) -> None:
    """Rename a damaged state, so that nobody meets it again, and say so."""
    aside = path.with_suffix(".damaged")
    with contextlib.suppress(FileNotFoundError):  # another process of this training did it
        path.replace(aside)
    logger.warning(
        "%s is damaged (%s: %s): it is now %s, and training begins anew.",
        path,
        type(error).__name__,
        " ".join(str(error).split()[:20]),
        aside.name,
    )


def _clear_abandoned(path: Path) -> None:
    """Remove what processes of this machine that were killed while saving have left."""
    for aside in path.parent.glob(f"{path.stem}.{platform.node()}.*.part"):
        pid = aside.suffixes[-2].removeprefix(".")
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            aside.unlink(missing_ok=True)


def scaler_of(fabric: Fabric) -> torch.amp.GradScaler | None:
    """The scaler of the loss that Fabric keeps in 16-mixed precision."""
    scaler: torch.amp.GradScaler | None = getattr(fabric.strategy.precision, "scaler", None)
    return scaler


def average_of(model: nn.Module, decay: float) -> AveragedModel | None:
    """A moving average of weights and norm statistics, a + (1 - decay) (w - a); None for decay 0.

    It starts as a copy of the weights after the first step.
    """
    if not decay:
        return None
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def update_parts(averages: Sequence[Tensor], values: Sequence[Tensor], count: Any) -> None:
        update([own_part(average) for average in averages], [own_part(value) for value in values], count)

    return AveragedModel(model, multi_avg_fn=update_parts, use_buffers=True)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()
