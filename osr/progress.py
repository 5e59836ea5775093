"""How much of a step is done: a bar on a terminal, elsewhere a line in the log now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

EVERY_S = 15.0  # between two lines of a step where there is no terminal

T = TypeVar("T")

logger = logging.getLogger("osr")


class _Bar(tqdm):  # type: ignore[misc]
    monitor_interval = 0  # no thread beside the bar: stage plot forks


class Shown:
    """Has a bar, which closes at the end of a `with`."""

    _bar: tqdm

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


class Steps(Shown):
    """Counts what is done of a step; to be used in a `with`.

    Args:
        title: what is done.
        total: of how many; None where nobody knows.
        unit: of what, in the plural.
        done: of these by an earlier run.
    """

    def __init__(self, title: str, total: int | None, unit: str, *, done: int = 0) -> None:
        self._bar = _Bar(
            desc=title,
            total=total,
            unit=f" {unit}",
            initial=done,
            disable=not on_terminal(),
            leave=None,
            miniters=1,
        )
        self._title, self._total, self._unit, self._done = title, total, unit, done
        self._told = time.monotonic()

    def step(self, count: int = 1) -> None:
        """Count what is done now."""
        self._bar.update(count)
        self._done += count
        if self._bar.disable and self._done != self._total and time.monotonic() - self._told >= EVERY_S:
            of_all = "" if self._total is None else f" of {self._total:,}"
            logger.info("%s: %s%s %s", self._title, f"{self._done:,}", of_all, self._unit)
            self._told = time.monotonic()


def on_terminal() -> bool:
    """Whether somebody sees bars; a process that was started without standard error has none."""
    return sys.stderr is not None and sys.stderr.isatty()


def announce(title: str, total: int, unit: str) -> None:
    """Say in a log that a step begins; a terminal sees its bar."""
    if not on_terminal():
        logger.info("%s: %s %s", title, f"{total:,}", unit)


def counted(items: Collection[T], title: str, unit: str) -> Iterator[T]:
    """The items in order, each counted when the next one is asked for; a log is told how many there are."""
    if items:
        announce(title, len(items), unit)
    with Steps(title, len(items), unit) as steps:
        for item in items:
            yield item
            steps.step()
