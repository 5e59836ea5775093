"""The default run of several commits in turn, each in a fresh clone: seconds, and whether results are equal.

python -m benchmarks.default_run 72468ad HEAD

Imports take much of it, so the packages need byte code (`pip` compiles, `uv pip` with --compile-bytecode).
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROUNDS = 3


def run(commit: str, folder: Path) -> tuple[float, str]:
    """Seconds of `dvc repro` in a new clone, and a hash of the weights and of all metrics."""
    subprocess.run(["git", "clone", "--quiet", ".", str(folder)], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=folder, check=True)
    start = time.perf_counter()
    subprocess.run(["dvc", "repro", "--quiet"], cwd=folder, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    content = hashlib.sha256()
    for path in (folder / "artifacts/model/model.safetensors", *sorted((folder / "metrics").glob("*.json"))):
        content.update(path.read_bytes())
    return seconds, content.hexdigest()[:12]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line per run, and the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commits", nargs="+")
    commits = parser.parse_args(arguments).commits
    times: dict[str, list[float]] = {commit: [] for commit in commits}
    for _ in range(ROUNDS):
        for commit in commits:
            with tempfile.TemporaryDirectory() as folder:
                seconds, digest = run(commit, Path(folder) / "osr")
            times[commit].append(seconds)
            print(f"{commit}: {seconds:.1f} s, weights and metrics {digest}", flush=True)
    for commit, values in times.items():
        print(f"{commit}: median {statistics.median(values):.1f} s")


if __name__ == "__main__":
    main()
