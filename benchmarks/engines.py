"""The images of `benchmarks.shards` through Ray or Spark, one worker killed: the verdicts of one call?

    python -m benchmarks.shards FOLDER classifier --images 1000000     first: makes the images and judges them
    python -m benchmarks.engines FOLDER classifier ray                 in an environment with osr[ray]
    python -m benchmarks.engines FOLDER classifier spark               with osr[spark] and Java

Everything runs on this machine. One worker is killed (SIGKILL) once it has worked for `--kill-after` seconds.
Seconds are those of processors, of all processes, those of the engine among them. Each worker notes
which tables it begins (`benchmarks.counted`), so that those that were done again are counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import dataset

from benchmarks.counted import FOLDER, Counted, told
from benchmarks.shards import ROOT

POLL_S = 0.5


def main() -> None:
    """Print one row of a Markdown table, and what was compared."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with images.parquet and whole.parquet")
    parser.add_argument("classifier", type=Path, help="what `osr export` made")
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--workers", type=int, default=2, help="(%(default)s)")
    parser.add_argument(
        "--kill-after", type=float, default=30, help="s of a worker's processor (%(default)s)"
    )
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = str(ROOT)
    folder, engine = arguments.folder.resolve(), arguments.engine
    out, tables = folder / engine, folder / f"{engine}-tables"
    for path in (out, tables):
        shutil.rmtree(path, ignore_errors=True)
    tables.mkdir()
    os.environ[FOLDER] = str(tables)
    score, of_a_worker = ENGINES[engine]
    watch = Watch(of_a_worker, arguments.kill_after)
    watch.start()
    began = time.monotonic()
    score(folder / "images.parquet", arguments.classifier.resolve(), out, arguments.workers)
    wall_s = time.monotonic() - began
    spent = watch.stop()
    found = dataset.dataset(out, format="parquet").to_table().sort_by("key")
    print(
        f"| {engine}, {arguments.workers} workers, {len(watch.killed)} killed | {spent:,.0f} | "
        f"{len(found) / spent:,.0f} | {wall_s:,.0f} |"
    )
    print(f"\n{compared(found, dataset.dataset(folder / 'whole.parquet').to_table())}")
    print(told(tables, watch.killed, len(found)))


def with_ray(images: Path, classifier: Path, out: Path, workers: int) -> None:
    """By actors of Ray on this machine."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ.update(RAY_worker_niceness="0")  # as of Spark; 15 of itself, less than others here get
    import ray

    import osr

    ray.init(num_cpus=workers + 1, include_dashboard=False, log_to_driver=False, object_store_memory=10**9)
    ray.data.DataContext.get_current().enable_progress_bars = False
    data = ray.data.read_parquet(str(images))
    found = osr.score_ray(data, classifier, num_workers=workers, keep=["key"], scorer=Counted)
    found.write_parquet(str(out))
    ray.shutdown()


def with_spark(images: Path, classifier: Path, out: Path, workers: int) -> None:
    """By Spark on this machine; a task that fails is begun again, up to four times."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    import osr

    session = (
        SparkSession.builder.master(f"local[{workers},4]")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.memory", "2g")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(2 * osr.load(classifier).batch_size))
        .getOrCreate()
    )
    frame = session.read.parquet(str(images))
    osr.score_spark(frame, classifier, keep=["key"], scorer=Counted).write.parquet(str(out))
    session.stop()


def is_ray_actor(process: psutil.Process) -> bool:
    """Whether a process holds a `Scorer`."""
    return Counted.__name__ in " ".join(process.cmdline()) and process.cmdline()[0].startswith("ray::")


def is_spark_worker(process: psutil.Process) -> bool:
    """Whether a process is one of those that Spark's Python daemon forks."""
    parent = process.parent()
    return parent is not None and "pyspark.daemon" in " ".join(parent.cmdline())


class Watch(threading.Thread):
    """Adds up what all processes below this one use, and kills one worker.

    Args:
        of_a_worker: whether a process is one.
        kill_after: s of its processor.
    """

    def __init__(self, of_a_worker: Callable[[psutil.Process], bool], kill_after: float) -> None:
        super().__init__(daemon=True)
        self.of_a_worker, self.kill_after = of_a_worker, kill_after
        self.killed: list[int] = []
        self.used: dict[tuple[int, float], float] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Look every half second."""
        this = psutil.Process()
        while not self.over.wait(POLL_S):
            for process in [this, *this.children(recursive=True)]:
                try:
                    times = process.cpu_times()
                    spent = times.user + times.system
                    self.used[process.pid, process.create_time()] = spent
                    if not self.killed and spent > self.kill_after and self.of_a_worker(process):
                        process.kill()
                        self.killed.append(process.pid)
                except psutil.Error:
                    continue

    def stop(self) -> float:
        """Processor seconds of all."""
        self.over.set()
        self.join()
        return sum(self.used.values())


def compared(found: pa.Table, whole: pa.Table) -> str:
    """A sentence: rows, labels, and how far numbers lie apart."""
    if found["key"].to_pylist() != list(range(len(whole))):
        return f"ROWS DIFFER: {len(found):,} instead of {len(whole):,}, or one is doubled"
    apart, exact = 0.0, True
    for name in whole.column_names:
        mine, theirs = found[name].combine_chunks(), whole[name].combine_chunks()
        if name == "file" or mine.equals(theirs):
            continue
        exact = False
        if not pa.types.is_floating(theirs.type):
            return f"{name} DIFFERS in {pc.sum(pc.not_equal(mine, theirs)).as_py():,} rows"
        apart = max(apart, float(np.abs(mine.to_numpy() - theirs.to_numpy()).max()))
    bits = "equal to the last bit" if exact else f"no label differs, and no number by more than {apart:.1e}"
    return f"{len(found):,} rows, each once: {bits}"


ENGINES = {"ray": (with_ray, is_ray_actor), "spark": (with_spark, is_spark_worker)}

if __name__ == "__main__":
    main()
