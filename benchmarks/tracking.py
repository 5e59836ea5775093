"""What tracking costs: six stages that compute nothing, one epoch's log call, and a table over 1,000 rows.

Run: python -m benchmarks.tracking
Everything happens in temporary folders. CPU seconds are those of the processes that were started, too.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 8
CALLS = 100
NUM_ROWS = 1000
CURVES = ("train/loss", "train/accuracy", "train/lr", "val/loss", "val/accuracy", "speed/images_per_s")
SYSTEM = tuple(f"system/{number}" for number in range(6))


@contextlib.contextmanager
def measured(what: str) -> Iterator[None]:
    """Print wall and CPU time of what happens inside."""
    before, start = cpu_seconds(), time.perf_counter()
    yield
    wall, cpu = time.perf_counter() - start, cpu_seconds() - before
    print(f"{what}: {wall:.1f} s, {cpu:.1f} CPU s", flush=True)


def cpu_seconds() -> float:
    """Of this process and of its children that ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def run(folder: Path, *command: str, **env: str) -> None:
    """A Python module as a command."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **env}
    subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=True, **quiet)


def toy_project(folder: Path) -> Path:
    """The project of tests/tracking_project, before its first execution."""
    sys.path.insert(0, str(ROOT / "tests"))
    from toy_project import create

    return create(folder / "toy").root


def epoch_seconds(folder: Path) -> float:
    """The median epoch of the shipped digits run, without tracking."""
    from osr.config import check_params, read_yaml
    from pipeline.preset import merge
    from pipeline.train import fit

    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "digits")], check=True)
    run(folder / "digits", "pipeline.prepare_split", OSR_TRACKING="off")
    stamps = []
    with contextlib.chdir(folder / "digits"):
        fewer = {"train": {"epochs": EPOCHS, "warmup_epochs": 1}}
        params = check_params(merge(read_yaml(Path("params.yaml")), fewer), source="benchmark")
        fit(params, lambda _values, _rate: stamps.append(time.perf_counter()))
    return float(np.median(np.diff(stamps)))


def log_seconds(project: Path) -> float:
    """The median of `log_epoch` with as many values as stage train sends."""
    from osr.config import load_params
    from pipeline.tracking import stage_run

    found = []
    with contextlib.chdir(project), stage_run("train", load_params(Path("params.yaml"))) as row:
        for epoch in range(CALLS):
            values = {name: float(epoch) for name in (*CURVES, *SYSTEM)}
            start = time.perf_counter()
            row.log_epoch(epoch, values)
            found.append(time.perf_counter() - start)
    return float(np.median(found))


def fill(database: Path) -> int:
    """Copy one finished row until there are 1,000; returns how many values each has."""
    with contextlib.closing(sqlite3.connect(database)) as tables:
        (model,) = tables.execute("SELECT run_uuid FROM runs WHERE status = 'FINISHED' LIMIT 1").fetchone()
        size = 0
        for table in ("runs", "params", "latest_metrics", "tags"):
            columns = [line[1] for line in tables.execute(f"PRAGMA table_info({table})")]
            others = ", ".join(column for column in columns if column != "run_uuid")
            copy = (
                f"INSERT INTO {table} (run_uuid, {others}) SELECT ?, {others} FROM {table} WHERE run_uuid = ?"
            )
            for number in range(NUM_ROWS - 1):
                tables.execute(copy, (f"{number:032x}", model))
            size += tables.execute(f"SELECT count(*) FROM {table} WHERE run_uuid = ?", (model,)).fetchone()[0]
        tables.commit()
    return size - 1


def main() -> None:
    """Measure all three."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = toy_project(folder)
        with measured("dvc repro, six stages that compute nothing, one row"):
            run(project, "dvc", "repro")
        with measured("dvc repro, nothing to do"):
            run(project, "dvc", "repro")
        values = fill(shutil.copy(project / "mlflow.db", folder / "many.db"))
        store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'many.db'}"}
        with measured(f"python -m pipeline.compare, {NUM_ROWS} rows of {values} values"):
            run(project, "pipeline.compare", "--metrics", "number/plot", **store)
        call, epoch = log_seconds(project), epoch_seconds(folder)
        print(f"log_epoch: {1e3 * call:.1f} ms; an epoch of the digits: {1e3 * epoch:.0f} ms; ", end="")
        print(f"share {100 * call / epoch:.1f} %")


if __name__ == "__main__":
    main()
