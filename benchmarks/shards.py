"""Judge many small images in shards, one of which is killed: do the verdicts equal those of one call?

    osr export classifier                             in a project with a finished run
    python -m benchmarks.shards FOLDER classifier     100,000 images of 32 x 32 in 8 shards
    python -m benchmarks.shards FOLDER classifier --images 1000000

The images are noise in colours, PNG files as bytes in a Parquet file, each with its number (`key`).
Shards run one after the other; one is killed (SIGKILL) once it has begun to write, and all are called again,
as a scheduler would. Seconds are those of processors, start of the program included.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROOT = Path(__file__).parents[1]
SIDE, GROUP, KILLED = 32, 10_240, 3


def main() -> None:
    """Print what each part took, as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("classifier", type=Path, help="what `osr export` made")
    parser.add_argument("--images", type=int, default=100_000, help="(%(default)s)")
    parser.add_argument("--shards", type=int, default=8, help="(%(default)s)")
    arguments = parser.parse_args()
    folder, count = arguments.folder, arguments.images
    images, out, whole = folder / "images.parquet", folder / "verdicts", folder / "whole.parquet"
    if not images.exists():
        make(images, count)
    options = [str(images), "--model", str(arguments.classifier), "--format", "parquet", "--workers", "0"]
    print(f"| {count:,} images | seconds | images a second |\n|---|---:|---:|", flush=True)
    row("one call", count, finish(start([*options, "--output", str(whole)])))

    def job(number: int) -> subprocess.Popen[bytes]:
        shard = f"{number}/{arguments.shards}"
        return start([*options, "--shard", shard, "--out", str(out)])

    spent = 0.0
    for number in range(1, arguments.shards + 1):
        spent += kill(job(number), out) if number == KILLED else finish(job(number))
    row(f"{arguments.shards} shards, one killed", count, spent)
    before = {path: path.stat().st_mtime_ns for path in files(out)}
    again = sum(finish(job(number)) for number in range(1, arguments.shards + 1))
    after = {path: path.stat().st_mtime_ns for path in files(out)}
    print(f"| all called again | {again:,.1f} | |")
    done_again = sum(before.get(path) != changed for path, changed in after.items())
    print(f"\n{len(before)} shards were there after the first round, {done_again} done in the second")
    same = pa.concat_tables(map(pq.read_table, files(out))) == pq.read_table(whole)
    print(f"verdicts {'equal' if same else 'DIFFER from'} those of one call, to the last bit")


def make(path: Path, count: int) -> None:
    """Images in groups of rows, the file whole or not at all."""
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    schema = pa.schema([("key", pa.int64()), ("bytes", pa.binary())])
    with pq.ParquetWriter(aside, schema) as file:
        for first in range(0, count, GROUP):
            keys = np.arange(first, min(first + GROUP, count))
            pixels = rng.integers(0, 256, (len(keys), SIDE, SIDE, 3), np.uint8)
            file.write_table(pa.table([keys, list(encoded(pixels))], schema=schema))
    aside.replace(path)


def encoded(pixels: np.ndarray) -> Iterator[bytes]:
    """PNG files."""
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "png", compress_level=0)
        yield file.getvalue()


def start(options: list[str]) -> subprocess.Popen[bytes]:
    """`osr predict` in a process of its own."""
    command = [sys.executable, "-m", "pipeline.cli", "predict", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def finish(process: subprocess.Popen[bytes]) -> float:
    """Processor seconds of a call that must end well."""
    before = processor_s()
    if process.wait() != 0:
        raise SystemExit(f"{process.args} ended with {process.returncode}")
    return processor_s() - before


def kill(process: subprocess.Popen[bytes], out: Path) -> float:
    """The same of a call that is killed while it writes."""
    before = processor_s()
    while not list(out.glob(f".verdicts-{KILLED:05}-*.part")):
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended before it could be killed")
        time.sleep(0.01)
    process.kill()
    process.wait()
    return processor_s() - before


def processor_s() -> float:
    """Of all processes of ours that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def files(out: Path) -> list[Path]:
    """In order of the images."""
    return sorted(out.glob("verdicts-*.parquet"))


def row(name: str, count: int, spent: float) -> None:
    """One line of the table."""
    print(f"| {name} | {spent:,.1f} | {count / spent:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
