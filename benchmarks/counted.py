"""Which worker of an engine began to judge which table: what `benchmarks.engines` counts.

A worker adds a line per table to a file of its own, before it judges it, so that a kill hides none.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from osr.inference.engines import Scorer

FOLDER = "OSR_BENCHMARK_TABLES"  # in the environment of the workers


class Counted(Scorer):
    """A `Scorer` that notes first key and number of images of each table."""

    def __call__(self, table: pa.Table) -> pa.Table:
        """The verdicts, once that it begins is noted."""
        with (Path(os.environ[FOLDER]) / str(os.getpid())).open("a") as file:
            file.write(f"{table['key'][0]} {len(table)}\n")
        return super().__call__(table)


def told(folder: Path, killed: Collection[int], count: int) -> str:
    """A sentence on the tables that were begun more than once.

    Args:
        folder: of the workers' files, each named by a process id.
        killed: process ids of the workers that were killed.
        count: images there are.
    """
    workers: dict[tuple[int, int], list[int]] = defaultdict(list)
    for file in folder.iterdir():
        for line in file.read_text().splitlines():
            first, length = map(int, line.split())
            workers[first, length].append(int(file.name))
    begun = sum(len(pids) for pids in workers.values())
    images = sum(length * len(pids) for (_, length), pids in workers.items()) - count
    again = [pids for pids in workers.values() if len(pids) > 1]
    theirs = sum(bool(set(pids) & set(killed)) for pids in again)
    had = sum(pid in killed for pids in workers.values() for pid in pids)
    return (
        f"{begun:,} tables begun, {len(workers):,} different ones: {begun - len(workers):,} done again "
        f"({images:,} images), {theirs:,} of which the killed worker had begun, of its {had:,}"
    )
