"""Work done ahead in other processes, in order: images are read and decoded while the network computes.

Ctrl-C reaches this process alone, which ends the others at once: they only read, and leave nothing behind.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.util import get_temp_dir
from typing import Any, TypeVar

from torch import set_num_threads

from osr.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Any], Any]

PER_WORKER = 2  # items that a process has at once: it works on one while the result of the other is taken
PATIENT_S, IMPATIENT_S = 10.0, 0.2  # with processes that are done, and with those whose work nobody wants
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def ahead(work: Callable[[Item], Result], items: Iterable[Item], *, num_workers: int) -> Iterator[Result]:
    """`work` of each item, in order; items are taken as they are needed.

    Args:
        work: picklable where processes do not begin as copies of this one; its results are picklable.
        items: any number.
        num_workers: processes that work, one thread each; 0 works in this one.

    Raises:
        InputError: `work` raised it, or a process was ended from outside.
        RuntimeError: `work` raised anything else; the message holds its traceback.
    """
    if not num_workers:
        yield from map(work, items)
        return
    rest, workers, waiting = iter(items), list[_Worker](), deque[_Worker]()
    get_temp_dir()  # which this process removes; else each of the others leaves its own when it is killed
    patience_s = IMPATIENT_S
    try:
        for number, item in enumerate(islice(rest, num_workers * PER_WORKER)):
            if number < num_workers:
                workers.append(_Worker(work, [worker.connection for worker in workers]))
            workers[number % num_workers].send(item)
            waiting.append(workers[number % num_workers])
        while waiting:
            worker = waiting.popleft()
            result = worker.result()
            for item in islice(rest, 1):
                worker.send(item)
                waiting.append(worker)
            yield result
        patience_s = PATIENT_S
    finally:
        for worker in workers:
            worker.connection.close()  # which ends those that have nothing to do
        last = time.monotonic() + patience_s
        for worker in workers:
            worker.process.join(max(0.0, last - time.monotonic()))
            worker.process.kill()
            worker.process.join()


class _Worker:
    """A process that works on items.

    Args:
        work: on each.
        others: connections to earlier processes, of which it keeps no copy: their ends must be seen.
    """

    def __init__(self, work: Work, others: Sequence[Connection]) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(
            target=_serve, args=(work, theirs, [*others, self.connection]), daemon=True
        )
        with theirs, _held_back():
            self.process.start()

    def send(self, item: Any) -> None:
        try:
            self.connection.send(item)
        except ConnectionError:
            raise self._ended() from None

    def result(self) -> Any:
        try:
            error, result = self.connection.recv()
        except (EOFError, ConnectionError):
            raise self._ended() from None
        if error is not None:
            raise error
        return result

    def _ended(self) -> InputError:
        self.process.join(1)
        return InputError(
            f"A process that reads images was ended from outside (status {self.process.exitcode}), as happens"
            " where memory is short: fewer of them (--workers, or train.num_workers) need less."
        )


@contextmanager
def _held_back() -> Iterator[None]:
    """Signals wait: a process that begins meanwhile gets none before it is ready for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(work: Work, connection: Connection, others: Sequence[Connection]) -> None:
    """Work until the process at the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    for other in others:
        other.close()
    set_num_threads(1)  # those of a copied process are no longer there
    results: queue.SimpleQueue[tuple[Exception | None, Any]] = queue.SimpleQueue()
    threading.Thread(target=_send, args=(results, connection), daemon=True).start()
    while True:
        try:
            item = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            results.put((None, work(item)))
        except InputError as error:
            results.put((error, None))
        except Exception:  # noqa: BLE001, raised where the result is asked for
            results.put((RuntimeError(traceback.format_exc()), None))


def _send(results: queue.SimpleQueue[Any], connection: Connection) -> None:
    """Send results while the next item is worked on; the other end takes them when it wants them."""
    while True:
        try:
            connection.send(results.get())
        except ConnectionError:
            return
