"""The progress bar of a training: images per second, time left, loss, accuracy; a log sees epochs alone."""

from __future__ import annotations

import time

from torch import Tensor
from tqdm import tqdm

from osr.progress import Shown, announce, on_terminal

REFRESH_S = 1.0  # asking for a loss makes a GPU wait


class ProgressBar(Shown):
    """Counts images over all epochs.

    Args:
        epochs: of the whole training.
        done: epochs of it that an earlier run has finished.
        num_images: of an epoch.
        hidden: nobody sees it, a terminal or not.
    """

    def __init__(self, epochs: int, *, done: int, num_images: int, hidden: bool = False) -> None:
        if not hidden:
            announce("train", epochs - done, f"epochs of {num_images:,} images")
        self._bar = tqdm(
            total=epochs * num_images,
            initial=done * num_images,
            desc="train",
            unit=" images",
            unit_scale=True,
            disable=hidden or not on_terminal(),
        )
        self._epochs, self._shown, self._last = epochs, {"epoch": f"{done}/{epochs}"}, time.monotonic()

    def step(self, num_images: int, loss: Tensor) -> None:
        """Count the images of an optimiser step; now and then show its loss."""
        if self._bar.disable:
            return
        self._bar.update(num_images)
        if time.monotonic() - self._last >= REFRESH_S:
            self._show(loss=f"{float(loss):.3f}")

    def epoch(self, row: dict[str, float]) -> None:
        """Show the numbers of a finished epoch."""
        if not self._bar.disable:
            self._show(
                epoch=f"{row['epoch']:.0f}/{self._epochs}",
                loss=f"{row['train/loss']:.3f}",
                accuracy=f"{row['train/accuracy']:.3f}",
                val_accuracy=f"{row['val/accuracy']:.3f}",
            )

    def _show(self, **values: str) -> None:
        self._shown |= values
        self._bar.set_postfix(self._shown)
        self._last = time.monotonic()
