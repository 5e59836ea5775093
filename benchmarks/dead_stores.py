"""What a store that is dead or silent costs each stage, beyond a store that is a file.

Run: python -m benchmarks.dead_stores [ROUNDS]
Six stages that compute nothing run one by one with DVC, with each store in turn, in two rounds; of a stage
the fastest time counts. Everything happens in a temporary folder and on the loopback.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.tracking import run, toy_project

FILE = "a file, mlflow.db"


@contextlib.contextmanager
def stores(root: Path) -> Iterator[dict[str, str]]:
    """What is wrong -> the address."""
    with socket.socket() as silent, socket.socket() as probe:
        for one in (silent, probe):
            one.bind(("127.0.0.1", 0))
        silent.listen(64)
        silent_port, closed_port = silent.getsockname()[1], probe.getsockname()[1]
        probe.close()
        (root / "no_database.db").write_bytes(b"no database " * 1000)
        yield {
            FILE: f"sqlite:///{root}/good.db",
            "HTTP, a closed port": f"http://127.0.0.1:{closed_port}",
            "HTTP, a port that accepts and is silent": f"http://127.0.0.1:{silent_port}",
            "PostgreSQL, a closed port": f"postgresql://a:b@127.0.0.1:{closed_port}/rows",
            "PostgreSQL, a port that accepts and is silent": f"postgresql://a:b@127.0.0.1:{silent_port}/rows",
            "a file that is no database": f"sqlite:///{root}/no_database.db",
        }


def main(rounds: int = 2) -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as folder, stores(Path(folder)) as addresses:
        project = toy_project(Path(folder))
        from pipeline.workspace.stages import STAGES

        taken: dict[tuple[str, str], float] = {}
        run(project, "dvc", "repro", "-q", OSR_TRACKING="off")
        for _ in range(rounds):
            for what, address in addresses.items():
                for stage in STAGES:
                    start = time.perf_counter()
                    run(project, "dvc", "repro", "-q", "-f", "-s", stage, MLFLOW_TRACKING_URI=address)
                    took = time.perf_counter() - start
                    taken[what, stage] = min(took, taken.get((what, stage), took))
        print("| store | seconds of a stage beyond a file, mean | most |\n|---|---:|---:|")
        for what in addresses:
            beyond = [taken[what, stage] - taken[FILE, stage] for stage in STAGES]
            if what != FILE:
                print(f"| {what} | {sum(beyond) / len(beyond):.1f} | {max(beyond):.1f} |")
        mean = sum(taken[FILE, stage] for stage in STAGES) / len(STAGES)
        print(f"\nWith {FILE}, a stage and DVC took {mean:.1f} s.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
