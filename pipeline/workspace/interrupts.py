"""Ctrl-C in a program of ours is one line and status 130, also while modules are still imported.

`pipeline/__init__.py` calls `while_loading` before anything else is imported. It holds where Python runs
`osr` or `python -m pipeline.X`; who imports `pipeline` keeps the signals as they are.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 128 + signal.SIGINT
LINE = b"ERROR: interrupted.\n"

_came = list[int]()


def while_loading() -> None:
    """From here on Ctrl-C ends the process on the spot: nothing was begun, and nothing is lost.

    An exception would be swallowed or turned into others where libraries import each other.
    """
    program = sys.argv[0] if sys.argv else ""
    is_ours = program == "-m" or os.path.basename(program) in ("osr", "osr.exe")  # noqa: PTH119, no pathlib yet
    if is_ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def while_working() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, for whoever has something to put away."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, _interrupt)


def while_ending() -> None:
    """From here on nothing is left to do but to let go of libraries: Ctrl-C ends the process on the spot."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, _leave)


@contextmanager
def unstoppable() -> Iterator[None]:
    """Another Ctrl-C or SIGTERM does not count while things are put away; only the main thread can say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is Ctrl-C, or follows it: libraries turn it into errors of their own."""
    return isinstance(error, KeyboardInterrupt) or (bool(_came) and isinstance(error, Exception))


def _leave(_number: int, _frame: FrameType | None) -> None:
    os.write(2, LINE)
    os._exit(STATUS)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _came.append(number)
    raise KeyboardInterrupt
