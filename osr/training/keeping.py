"""When the state of a training is kept: after each epoch, but of short ones once a second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from osr.training.state import Progress, TrainingState

EpochCallback = Callable[[dict[str, float], float], None]

# Keeping takes about 10 ms: more than a twentieth of an epoch of the default run.
SHORTEST_S = 1.0


@dataclass
class Keeper:
    """Keeps a training's state, and tells of an epoch once it is kept, so that none is told of twice.

    Args:
        state: what is kept.
        path: the file.
        on_epoch: called with an epoch's row of the history and its training images per second.
    """

    state: TrainingState
    path: Path
    on_epoch: EpochCallback
    _last: float = -math.inf
    _waiting: list[tuple[dict[str, float], float]] = field(default_factory=list)

    def add(self, row: dict[str, float], images_per_s: float, progress: Progress, *, is_last: bool) -> None:
        """Take in an epoch; the first and the last are kept at once.

        Raises:
            InputError: the state cannot be written.
        """
        self._waiting.append((row, images_per_s))
        if not is_last and time.monotonic() - self._last < SHORTEST_S:
            return
        self.state.save(self.path, progress)
        self._last = time.monotonic()
        for told in self._waiting:
            self.on_epoch(*told)
        self._waiting.clear()
