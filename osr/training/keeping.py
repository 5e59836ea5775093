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
        writes: False for processes that only give their part of the state, and tell nobody.
    """

    state: TrainingState
    path: Path
    on_epoch: EpochCallback
    writes: bool = True
    _last: float = -math.inf
    _waiting: list[tuple[dict[str, float], float]] = field(default_factory=list)

    def is_due(self, *, is_last: bool) -> bool:
        """Whether the state is to be kept after this epoch; the first and the last are kept at once."""
        return is_last or time.monotonic() - self._last >= SHORTEST_S

    def add(self, row: dict[str, float], images_per_s: float, progress: Progress, *, is_due: bool) -> None:
        """Take in an epoch, and keep the state if that is due.

        Raises:
            InputError: the state cannot be written.
        """
        self._waiting.append((row, images_per_s))
        if not is_due:
            return
        self.state.save(self.path, progress, writes=self.writes)
        self._last = time.monotonic()
        for told in self._waiting if self.writes else ():
            self.on_epoch(*told)
        self._waiting.clear()
