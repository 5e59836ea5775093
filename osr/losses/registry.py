"""Losses by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from osr.losses.cross_entropy import CrossEntropy
from osr.train_settings import TrainSettings

LOSSES: dict[str, Callable[[TrainSettings], nn.Module]] = {
    "ce": lambda settings: CrossEntropy(label_smoothing=settings.label_smoothing),
}
