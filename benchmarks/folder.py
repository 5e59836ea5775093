"""Time and memory of stage prepare-split on folders of small JPEGs.

    python -m benchmarks.folder [images ...]      25000 50000 100000 by default

Each size runs in a process of its own, on different noisy images of 32 x 32 in ten classes. Printed are the
time and CPU time of the stage and the largest private memory (without pages of files, which the system takes
back when it needs them).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from tqdm import tqdm

from osr.params import Params, load_params

SIZES = (25_000, 50_000, 100_000)
NUM_CLASSES = 10


def make_folder(top: Path, count: int) -> None:
    """`count` different JPEGs in class sub-folders."""
    draw = np.random.default_rng(0)
    for number in range(NUM_CLASSES):
        (top / f"class {number}").mkdir(parents=True)
    base = draw.integers(0, 200, (1000, 4, 4, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    for number in tqdm(range(count), desc="write images", disable=None):
        pixels = base[number % 1000] + draw.integers(0, 56, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(top / f"class {number % NUM_CLASSES}" / f"{number}.jpg")


def measure(root: Path) -> None:
    """Run the stage's work in this process and print seconds and mebibytes."""
    from pipeline.prepare_split import prepare_split

    content = load_params(Path("params.yaml")).model_dump()
    content["dataset"] |= {"name": "folder", "root": str(root)}
    content["split"] |= {"protocol": "first_k", "num_known": 6}
    params = Params.model_validate(content)
    os.chdir(root)
    process, largest, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            memory = process.memory_info()
            largest[0] = max(largest[0], memory.rss - memory.shared)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, start_cpu = time.perf_counter(), time.process_time()
    prepare_split(params, None)  # type: ignore[arg-type]
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    done.set()
    watcher.join()
    print(f"{seconds:.1f} {cpu:.1f} {largest[0] / 2**20:.0f}")


def main() -> None:
    """Print one Markdown row per size."""
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
        return
    print(
        "| images | prepare-split, s | CPU, s | CPU per 1,000 images, s | private memory, MiB |\n"
        + "|---" * 5
        + "|"
    )
    for count in map(int, sys.argv[1:]) if sys.argv[1:] else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            make_folder(Path(folder) / "images", count)
            command = [sys.executable, "-m", "benchmarks.folder", "--measure", folder]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        seconds, cpu, memory = map(float, found)
        rate = 1000 * cpu / count
        print(f"| {count:,} | {seconds:.1f} | {cpu:.1f} | {rate:.3f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
