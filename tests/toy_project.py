"""Makes and drives the toy DVC project of tests/tracking_project."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from dvc_project import TIMEOUT_S, Project, commit_all

from pipeline.workspace import stages

ROOT = Path(__file__).parents[1]
STAGES = ("prepare-split", "train", "calibrate", "fit-openmax", "evaluate", "plot")


def is_complete(row) -> bool:
    return row.info.status == "FINISHED" and {f"number/{name}" for name in STAGES} <= set(row.data.metrics)


def agrees(project: Project, row) -> bool:
    """Whether the files at hand are what a row says it made, and with which setting."""
    dpi = row.data.params["plot.dpi"]
    numbers = {
        f"number/{name}": json.loads((project.root / stage.metrics).read_text())["number"][name]
        for name, stage in stages.STAGES.items()
    }
    held = {key: row.data.metrics[key] for key in numbers}
    return held == numbers and f"dpi: {dpi}" in (project.root / "params.yaml").read_text()


def hang(
    project: Project, *arguments: str, log: Path = Path(os.devnull), **env: str
) -> tuple[subprocess.Popen, int]:
    """Start a Python module whose stage hangs; returns the process, and the process id of the stage."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=project.root,
            env=project.environment() | env,
            stdout=output,
            stderr=output,
        )
    sign = project.root / "hanging"
    deadline = time.monotonic() + TIMEOUT_S
    while not (sign.exists() and sign.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process, int(sign.read_text())


def create(root: Path) -> Project:
    """A new project with one commit, before its first execution."""
    shutil.copytree(ROOT / "tests" / "tracking_project", root, ignore=shutil.ignore_patterns("__pycache__"))
    for package in ("osr", "pipeline"):  # with what is compiled, so that no process does it again
        shutil.copytree(ROOT / package, root / package)
    for name in ("params.yaml", "MLproject", ".gitignore"):
        shutil.copy(ROOT / name, root)
    project = Project(root)
    project.run("git", "init", "-q", "-b", "main")
    project.dvc("init", "-q")
    commit_all(project, "toy")
    return project
