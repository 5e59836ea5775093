"""A project whose sweeps are quick, and sweeps of it whose jobs are killed at random."""

import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
from dvc_project import Project, commit_all
from ruamel.yaml import YAML
from test_pipeline import clone
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
                swept = [(name, "plot.dpi", dpi), (name, "plot.gallery_images", "2")]
                tables.executemany("INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)", swept)
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


LAUNCH = Path("pipeline/experiments/launch.py")
STAND_INS = 60
# Every tenth of the sixty is a run of all stages, which trains anew.
REAL = range(101, 101 + STAND_INS, 10)
SMALL = {
    "train.epochs": 1,
    "train.warmup_epochs": 0,
    "detectors.enabled": ["maxlogit", "energy"],
    "evaluate.shifts.corruptions": [],
    "plot.tsne_images": 50,
    "plot.tsne_perplexity": 5.0,
    "plot.umap": False,
    "plot.gallery_images": 2,
}
# `osr run` itself for the experiments that set train.seed, and a stand-in for the others.
CHOICE = """\
from pipeline.experiments import stand_in
from pipeline.experiments.real_launch import *
from pipeline.experiments.real_launch import run as run_stages


def run(options):
    text = Path("params.yaml").read_text()
    return (run_stages if "seed: 7" in text else stand_in.run)(options)
"""


def create_with_real_runs(root: Path, *, number: int = STAND_INS) -> Project:
    """A clone of this working tree with a sweep `many`: runs on digits with one epoch, and stand-ins."""
    root.mkdir()
    made = clone(root)
    for key, value in SMALL.items():
        made.set(key, value)
    shutil.copy(root / LAUNCH, root / LAUNCH.with_name("real_launch.py"))
    (root / LAUNCH).write_text(CHOICE)
    (root / LAUNCH.with_name("stand_in.py")).write_text(RUN)
    variants = [
        {"plot.dpi": dpi} | ({"train.seed": 7000 + dpi} if dpi in REAL else {})
        for dpi in range(101, 101 + number)
    ]
    with (root / "sweeps" / "many.yaml").open("w") as file:
        YAML().dump({"variants": variants, "grid": {"plot.gallery_images": [2]}}, file)
    commit_all(made, "experiments, every tenth of them real")
    return made


def rows(project: Path) -> list[tuple[str, str]]:
    """`plot.dpi` and status of each row."""
    with sqlite3.connect(project / "mlflow.db") as tables:
        query = (
            "SELECT value, status FROM runs JOIN params ON params.run_uuid = runs.run_uuid "
            "WHERE key = 'plot.dpi' ORDER BY value"
        )
        return tables.execute(query).fetchall()


OF_A_JOB = re.compile(
    r"submitit\S*_submit|-m (pipeline\.cli run|pipeline\.experiments\.job|dvc repro|"
    r"pipeline\.(prepare_split|train|calibrate|fit_openmax|evaluate|plot)\b)"
)


def sweep(project: Path, name: str, cluster: str, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "pipeline.cli", "sweep", name, "--submit", cluster, *more]
    return subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def jobs_of(project: Path) -> list[psutil.Process]:
    """The processes of all jobs that run: submitit's, `osr run`, DVC and stages."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(project)) and OF_A_JOB.search(" ".join(process.cmdline())):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_one(project: Path, draw: random.Random) -> list[str]:
    """End a process of a job, whichever it is, or all of a job as a scheduler does.

    Returns:
        The command of each that was ended; none where no job ran.
    """
    targets = jobs_of(project)
    try:
        target = draw.choice(targets) if targets else None
        whole = [] if target is None else [target, *target.children(recursive=True)]
        ended = whole if draw.random() < 0.7 else whole[:1]
        told = [" ".join(process.cmdline()) for process in ended]
        for process in ended:
            process.kill()
    except psutil.NoSuchProcess:
        return []
    return told


# What a scheduler prints of the jobs that wait or run; those that HTCondor holds for good do neither.
QUEUES = {
    "slurm": ["squeue", "--noheader", "--name=osr-{name}"],
    "condor": ["condor_q", "-constraint", "JobStatus < 3", "-format", "%d\n", "ClusterId"],
}


def waiting(cluster: str, name: str) -> bool:
    if cluster == "local":
        return False
    command = [word.format(name=name) for word in QUEUES[cluster]]
    return bool(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def run_with_kills(
    project: Path,
    name: str,
    *,
    kills: int,
    jobs: int,
    cluster: str = "local",
    pause_s: tuple[float, float] = (0.5, 3),
) -> list[list[str]]:
    """Sweep until nothing is missing, with random kills meanwhile.

    Returns:
        What each kill ended, by its commands.
    """
    draw, done = random.Random(0), list[list[str]]()
    for _ in range(30):
        program = sweep(
            project, name, cluster, "--missing", "--jobs", str(jobs), "--cpus", "1", "--memory", "1"
        )
        while program.poll() is None or waiting(cluster, name):
            time.sleep(draw.uniform(*pause_s))
            if len(done) < kills and (ended := kill_one(project, draw)):
                done.append(ended)
        told, _ = program.communicate()
        assert "Traceback" not in told, told
        if "no experiment is missing" in told:
            return done
        time.sleep(2)  # what a kill has left alone comes to its end
    raise AssertionError("there is always something missing")
