"""Results stay until new ones are whole: a running stage writes aside, and then its outputs change places.

DVC leaves the outputs alone when it starts a stage (`persist: true` in dvc.yaml). The stage writes into
`.osr/aside/<stage>/new`. When everything is written the folder is renamed to `whole`, which is the one moment
that counts: what ends a stage before it leaves the earlier results, what ends it later leaves the new ones.
The next stage that runs moves into place what is still aside.
"""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.workspace.stages import STAGES

ASIDE = Path(".osr", "aside")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_running: list[str] = []
_afterwards: list[Callable[[], None]] = []


def new(path: Path) -> Path:
    """Where to write `path`, an output of the running stage or in one; outside a stage the path itself."""
    return ASIDE / _running[-1] / "new" / path if _running else path


def afterwards(action: Callable[[], None]) -> None:
    """Do something once the new results are in their place; outside a stage at once."""
    if _running:
        _afterwards.append(action)
    else:
        action()


@contextmanager
def written_aside(name: str) -> Iterator[None]:
    """Let the stage `name` write to the places that `new` names; swap its outputs when it ends well.

    An output folder holds only what this run wrote into it.

    Raises:
        FileNotFoundError: the stage has not written one of its outputs.
    """
    folder = ASIDE / name
    discard(name)
    _running.append(name)
    _afterwards.clear()
    try:
        for out in STAGES[name].outs:
            new(out).parent.mkdir(parents=True, exist_ok=True)
        yield
        for out in STAGES[name].outs:
            new(out).lstat()
    finally:
        _running.clear()
    with _undisturbed():
        (folder / "new").rename(folder / "whole")
        _move(name)
        for action in _afterwards:
            action()


def discard(name: str) -> None:
    """Remove what the stage `name` wrote aside and did not complete."""
    _remove(ASIDE / name / "new")


def finish_swaps() -> None:
    """Move into place what a stage that was killed in the middle of its swap had left aside, whole."""
    for name in STAGES:
        if (ASIDE / name / "whole").is_dir():
            _move(name)


def _move(name: str) -> None:
    folder = ASIDE / name
    for number, out in enumerate(STAGES[name].outs):
        made = folder / "whole" / out
        if made.is_symlink() or made.exists():  # else an interrupted swap has moved it
            out.parent.mkdir(parents=True, exist_ok=True)
            if out.is_dir() and not out.is_symlink():
                earlier = folder / f"earlier_{number}"
                _remove(earlier)
                out.rename(earlier)
            elif made.is_dir():
                out.unlink(missing_ok=True)
            shutil.move(made, out)
    _remove(folder)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back what asks the process to end, for the milliseconds of a swap."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda *told: came.append(told[0])) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for signal_number in came:
            signal.raise_signal(signal_number)
