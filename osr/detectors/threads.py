"""Work on rows, some at a time, on as many threads as torch has."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def on_threads(work: Callable[[slice], None], count: int, *, step: int) -> None:
    """Call `work` with each slice of `step` of `count` rows; the number of threads changes no result.

    It must let other Python threads run, as numpy does, and not start threads of its own, as torch does for
    more than 32,767 numbers.
    """
    parts = [slice(start, min(start + step, count)) for start in range(0, count, step)]
    threads = min(torch.get_num_threads(), len(parts))
    if threads <= 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))
