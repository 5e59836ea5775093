"""Seconds and peak memory of calls (Linux)."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import faiss
import torch
from threadpoolctl import threadpool_limits

Clock = Literal["wall", "cpu"]
Result = TypeVar("Result")

CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
ENOUGH_S = 2.0  # no further repeat after so many seconds


def limit_threads(count: int) -> None:
    """Let BLAS, OpenMP, torch and faiss use so many threads from now on."""
    threadpool_limits(count)
    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)


def timed(call: Callable[[], Result], clock: Clock) -> tuple[float, Result]:
    """Seconds of one call, and what it returns."""
    now = CLOCKS[clock]
    start = now()
    result = call()
    return now() - start, result


def best(call: Callable[[], object], repeats: int, clock: Clock, *, first: float | None = None) -> float:
    """Seconds of the fastest of at least one call; `first` are those of a call that was already made."""
    times = [timed(call, clock)[0] if first is None else first]
    while len(times) < repeats and sum(times) < ENOUGH_S:
        times.append(timed(call, clock)[0])
    return min(times)


def reset_peak() -> int:
    """Give freed memory back and forget the peak of resident memory; bytes resident now."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(key: str) -> int:
    """Bytes, from /proc: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])
