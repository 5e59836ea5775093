"""Work on rows, some at a time, on as many threads as torch has."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

# Rows that are worth a thread.
_LEAST = 32


def on_threads(work: Callable[[slice], None], count: int, *, step: int) -> None:
    """Call `work` with each slice of at most `step` of `count` rows; the number of threads changes no result.

    It must let other Python threads run, as numpy does, and not start threads of its own: numpy's matrix
    products do not here, torch does for more than 32,767 numbers.
    """
    threads = torch.get_num_threads()
    step = max(1, min(step, max(_LEAST, -(-count // threads))))
    parts = [slice(start, min(start + step, count)) for start in range(0, count, step)]
    if threads == 1 or len(parts) <= 1:
        for part in parts:
            work(part)
        return
    with _matrix_products().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))


@cache
def _matrix_products() -> ThreadpoolController:
    """Of the libraries that are loaded when it is first asked for, numpy's among them."""
    return ThreadpoolController()
