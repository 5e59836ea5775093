"""What tracking costs: six stages that compute nothing, epochs that are logged, and a table over 1,000 rows.

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
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from osr.training.keeping import EpochCallback
    from pipeline.tracking.stage_run import Row

ROOT = Path(__file__).resolve().parents[1]
NUM_ROWS = 1000


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


def logging_share(folder: Path) -> tuple[int, float, float]:
    """Run stage train of the shipped digits settings in a row.

    Returns:
        Number of epochs, the seconds they took, and the seconds of these that logging took.
    """
    from osr.params import load_params
    from pipeline import train
    from pipeline.tracking.stage_run import stage_run
    from pipeline.workspace.files import write_json
    from pipeline.workspace.stages import STAGES

    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "digits")], check=True)
    run(folder / "digits", "pipeline.prepare_split", OSR_TRACKING="off")
    make_logger, begun, ended = train.epoch_logger, [], []

    def timed(row: Row, unit: str) -> EpochCallback:
        log = make_logger(row, unit)

        def log_epoch(values: dict[str, float], images_per_s: float) -> None:
            begun.append(time.perf_counter())
            log(values, images_per_s)
            ended.append(time.perf_counter())

        return log_epoch

    params = Path("params.yaml")
    with contextlib.chdir(folder / "digits"), mock.patch.object(train, "epoch_logger", timed):
        settings = load_params(params)
        with stage_run("train", settings) as row:
            write_json(STAGES["train"].metrics, train.train_stage(settings, row))
    inside = sum(end - start for start, end in zip(begun, ended, strict=True)) - (ended[0] - begun[0])
    return len(ended) - 1, ended[-1] - ended[0], inside


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
        with measured(f"osr compare, {NUM_ROWS} rows of {values} values"):
            run(project, "pipeline.cli", "compare", "--metrics", "number/plot", **store)
        epochs, whole, inside = logging_share(folder)
        print(f"{epochs} epochs of the digits: {whole:.2f} s; logging them: {1e3 * inside:.0f} ms; ", end="")
        print(f"share {100 * inside / whole:.2f} %")


if __name__ == "__main__":
    main()
