"""A project whose sweeps are quick, and sweeps of it whose jobs are killed at random."""

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
from dvc_project import commit_all
from toy_project import create

# Stands for `osr run`: a row of its workspace, which a second run goes on in, and half a second of work.
RUN = """\
import os, re, sqlite3, time, uuid
from pathlib import Path
from filelock import FileLock


def run(options):
    Path(".osr").mkdir(exist_ok=True)
    with FileLock(".osr/run.lock"):
        workspace = Path(".osr/workspace")
        if not workspace.exists():
            workspace.write_text(uuid.uuid4().hex)
        name = workspace.read_text()
        tables = sqlite3.connect(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"), timeout=300)
        dpi = re.search(r"  dpi: (\\d+)", Path("params.yaml").read_text())[1]
        with tables:
            if not tables.execute("SELECT 1 FROM runs WHERE run_uuid = ?", (name,)).fetchone():
                columns = "run_uuid, name, user_id, status, start_time, lifecycle_stage, experiment_id"
                row = (name, name, "nobody", "RUNNING", int(time.time() * 1000), "active", 1)
                tables.execute(f"INSERT INTO runs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                tables.execute("INSERT INTO params (run_uuid, key, value) VALUES (?, 'plot.dpi', ?)",
                               (name, dpi))
        if Path("../hang").exists():
            Path("../hang").unlink()
            time.sleep(300)
        time.sleep(0.5)
        with tables:
            tables.execute("UPDATE runs SET status = 'FINISHED' WHERE run_uuid = ?", (name,))
            done = (name, "osr.stage.evaluate", "done")
            tables.execute("INSERT OR REPLACE INTO tags (run_uuid, key, value) VALUES (?, ?, ?)", done)
    return 3 if Path("../fail").exists() else 0
"""


def create_stand_in(root: Path) -> Path:
    """The toy project with a stand-in for `osr run`, and sweeps of three and of sixty experiments."""
    toy = create(root)
    (toy.root / "pipeline" / "experiments" / "launch.py").write_text(RUN)
    (toy.root / "sweeps").mkdir()
    (toy.root / "data").mkdir()
    (toy.root / "sweeps" / "few.yaml").write_text("grid: {plot.dpi: [91, 92, 93]}\n")
    many = list(range(101, 161))
    (toy.root / "sweeps" / "many.yaml").write_text(f"grid: {{plot.dpi: {many}}}\n")
    commit_all(toy, "a stand-in")
    return root


def rows(project: Path) -> list[tuple[str, str]]:
    """Value and status of each row."""
    with sqlite3.connect(project / "mlflow.db") as tables:
        query = "SELECT value, status FROM runs JOIN params ON params.run_uuid = runs.run_uuid ORDER BY value"
        return tables.execute(query).fetchall()


def sweep(project: Path, name: str, cluster: str, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "pipeline.cli", "sweep", name, "--submit", cluster, *more]
    return subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def jobs_of(project: Path) -> list[psutil.Process]:
    """The processes of all jobs that run."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            if process.cwd().startswith(str(project)) and ("_submit" in words or "pipeline.cli run" in words):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_one(project: Path, draw: random.Random) -> bool:
    """End a process of a job, whichever it is, or all of a job as a scheduler does."""
    targets = jobs_of(project)
    try:
        target = draw.choice(targets) if targets else None
        whole = [] if target is None else [target, *target.children(recursive=True)]
        for process in whole if draw.random() < 0.7 else whole[:1]:
            process.kill()
    except psutil.NoSuchProcess:
        return False
    return target is not None


def waiting(cluster: str, name: str) -> bool:
    if cluster == "local":
        return False
    command = ["squeue", "--noheader", f"--name=osr-{name}"]
    return bool(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def run_with_kills(project: Path, name: str, *, kills: int, jobs: int, cluster: str = "local") -> int:
    """Sweep until nothing is missing, with random kills meanwhile; how many there were."""
    draw, done = random.Random(0), 0
    for _ in range(30):
        program = sweep(
            project, name, cluster, "--missing", "--jobs", str(jobs), "--cpus", "1", "--memory", "1"
        )
        while program.poll() is None or waiting(cluster, name):
            time.sleep(draw.uniform(0.5, 3))
            if done < kills:
                done += kill_one(project, draw)
        told, _ = program.communicate()
        assert "Traceback" not in told, told
        if "no experiment is missing" in told:
            return done
        time.sleep(2)  # what a kill has left alone comes to its end
    raise AssertionError("there is always something missing")
