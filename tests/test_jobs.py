"""The job templates of docs/jobs, run as the schedulers would run them; there is no scheduler here."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dvc_project import TIMEOUT_S, Project, commit_all, states
from toy_project import STAGES, agrees, create, is_complete

ROOT = Path(__file__).parents[1]
JOBS = "docs/jobs"


@pytest.mark.parametrize("name", ["slurm.sh", "condor.sh"])
def test_scripts_are_valid_bash(name: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / JOBS / name)], check=True)


def test_condor_runs_the_script_that_is_there() -> None:
    lines = (ROOT / JOBS / "condor.sub").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    program = {key.strip(): value.strip() for key, value in settings.items()}["executable"]
    assert (ROOT / program).is_file()


def job(project: Project, script: str, **env: str) -> subprocess.Popen[str]:
    """Start a job as task 1 of an array, from a clone with an environment in .venv."""
    shutil.copytree(ROOT / JOBS, project.root / JOBS)
    activate = project.root / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH\n")
    commit_all(project, "jobs")
    scratch = project.root.parent / "scratch"
    scratch.mkdir()
    variables = {
        "OSR_HOME": str(project.root),
        "SLURM_ARRAY_TASK_ID": "1",
        "TMPDIR": str(scratch),
        "MLFLOW_TRACKING_URI": f"sqlite:///{project.root}/mlflow.db",
    }
    command = ["bash", f"{JOBS}/{script}", "fine", "plot.gallery_images=@"]
    environment = project.environment() | variables | env
    return subprocess.Popen(command, cwd=project.root, env=environment, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["slurm.sh", "condor.sh"])
def test_a_job_is_one_row_and_its_experiment_comes_back(tmp_path: Path, script: str) -> None:
    project = create(tmp_path / "toy")
    assert job(project, script).wait(TIMEOUT_S) == 0
    (row,) = project.rows()
    assert is_complete(row)
    assert states(row) == dict.fromkeys(STAGES, "done")
    assert (row.data.params["plot.dpi"], row.data.params["plot.gallery_images"]) == ("99", "1")
    assert not list((tmp_path / "scratch").glob("osr.*")), "the job's clone is gone"
    experiment = row.data.tags["osr.experiment"]
    assert experiment in project.dvc("exp", "list", "--name-only").split()
    for way in (f"dvc exp apply {experiment}", row.data.tags["osr.restore"]):
        shutil.rmtree(project.root / "figures", ignore_errors=True)
        project.run("bash", "-euc", way)
        assert agrees(project, row)


def test_a_job_without_a_store_that_outlives_it_is_refused(tmp_path: Path) -> None:
    command = ["bash", str(ROOT / JOBS / "slurm.sh"), "digits_quick"]
    environment = {"PATH": os.environ["PATH"], "OSR_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert (
        f"set it to a server, or to sqlite:///{tmp_path}/mlflow.db if all jobs run on one machine"
        in done.stderr
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_warning_before_the_time_limit_closes_the_row(tmp_path: Path) -> None:
    project = create(tmp_path / "toy")
    started = job(project, "slurm.sh", TOY_HANG="prepare-split")
    deadline = time.monotonic() + TIMEOUT_S
    while not list((tmp_path / "scratch").rglob("hanging")):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    started.send_signal(signal.SIGTERM)
    assert started.wait(TIMEOUT_S) != 0
    (row,) = project.rows()
    assert row.info.status == states(row)["prepare-split"] == "KILLED"
    assert not list((tmp_path / "scratch").glob("osr.*"))
