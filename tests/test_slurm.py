"""`osr sweep --submit`: jobs that are killed, begun again and submitted twice make one row each."""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from dvc_project import TIMEOUT_S, commit_all, states
from swept_project import REAL, create_stand_in, create_with_real_runs, rows, run_with_kills
from test_pipeline import assert_complete
from toy_project import STAGES, create, is_complete

from osr.errors import InputError
from pipeline import cli
from pipeline.experiments.job import CLONE, DONE, SweepJob, is_at_work, write_job
from pipeline.experiments.submit import submit
from pipeline.tracking.store import connect
from pipeline.workspace.git import git

NO_SUBMITIT = "submitit is not installed: `.ci/extras slurm` runs this"
NO_SLURM = 'no Slurm here: eval "$(.ci/slurm start FOLDER)" starts one'


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose `osr run` is a stand-in, with a store: both take seconds to make."""
    root = create_stand_in(tmp_path_factory.mktemp("swept") / "toy")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "OSR_TRACKING"):
            patch.delenv(name, raising=False)
        connect(root)
    return root


@pytest.fixture
def project(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that project; the working directory."""
    for name in ("MLFLOW_TRACKING_URI", "OSR_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    root = Path(shutil.copytree(stand_in, tmp_path / "toy", symlinks=True))
    monkeypatch.chdir(root)
    return root


def all_once(values: list[int]) -> list[tuple[str, str]]:
    return [(str(value), "FINISHED") for value in values]


def job_in(project: Path, dpi: int = 91) -> Path:
    folder = project / ".osr" / "sweeps" / "one" / "job"
    cache = project / ".dvc" / "cache"
    settings = {"plot": {"dpi": dpi}}
    write_job(folder, settings, home=project, commit=git("rev-parse", "HEAD") or "", cache=str(cache))
    return folder


def test_a_job_is_one_row_however_often_it_is_begun(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    folder = job_in(project)
    (folder / "hang").touch()
    command = [sys.executable, "-m", "pipeline.experiments.job", str(folder)]
    first = subprocess.Popen(command)
    while (folder / "hang").exists():
        assert first.poll() is None
        time.sleep(0.1)
    assert is_at_work(folder)
    with pytest.raises(InputError, match="another process does this job"):
        SweepJob()(str(folder))
    clone = folder / CLONE
    assert f"dir = {project}/.dvc/cache" in (clone / ".dvc" / "config.local").read_text()
    assert (clone / "data").resolve() == project / "data"
    first.send_signal(signal.SIGTERM)
    assert first.wait(TIMEOUT_S) == 143
    assert rows(project) == [("91", "RUNNING")]
    assert not is_at_work(folder)
    (folder / "fail").touch()
    with pytest.raises(InputError, match="ended with status 3, as said above"):
        SweepJob()(str(folder))
    assert not (folder / DONE).exists()
    (folder / "fail").unlink()
    for _ in range(2):
        SweepJob()(str(folder))
        assert rows(project) == [("91", "FINISHED")]
    assert not clone.exists()
    job_in(project)
    assert not (folder / DONE).exists(), "submitted anew it runs anew"


def test_what_is_missing_is_one_sentence(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert cli.main(["sweep", "few", "--submit", "condor"]) == 1
    assert "MLFLOW_TRACKING_URI must name a server that all jobs reach" in capsys.readouterr().err
    assert cli.main(["sweep", "few", "--submit", "local"]) == 1
    told = capsys.readouterr().err
    assert told == (
        "ERROR: --submit local needs submitit: install the extra `slurm`, in a clone by uv pip install -e "
        "'.[slurm]'.\n"
    )
    assert not (project / ".osr" / "sweeps").exists()


def test_condor_gets_a_file_whose_jobs_run(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    assert cli.main(["sweep", "few", "--submit", "condor", "--jobs", "2", "--time", "9"]) == 0
    file = Path(".osr/sweeps/few/condor.sub")
    assert capsys.readouterr().out == f"3 jobs in {file}: condor_submit {file}, where HTCondor is\n"
    text = file.read_text()
    head, _, tail = text.partition("queue folder from (\n")
    settings = dict(line.split("=", 1) for line in head.splitlines() if "=" in line and line[0] != "#")
    said = {key.strip(): value.strip() for key, value in settings.items()}
    assert (said["max_materialize"], said["max_retries"]) == ("2", "3")
    assert said["periodic_hold"].endswith("> 540")
    assert "request_gpus" not in said
    folders = tail.removesuffix(")\n").split()
    assert len(folders) == 3
    arguments = shlex.split(said["arguments"].strip('"').replace("$(folder)", folders[1]))
    subprocess.run([said["executable"], *arguments], check=True, cwd=said["initialdir"])
    assert rows(project) == [("92", "FINISHED")]
    assert cli.main(["sweep", "few", "--submit", "condor", "--missing"]) == 0
    assert "2 jobs in" in capsys.readouterr().out


SLURM = {
    "sbatch": 'cat "$1" >> "$SLURM_SAID"; echo "Submitted batch job 7"',
    "srun": "exit 0",
    "scontrol": "echo 'MaxArraySize            = 3'",
}


def test_slurm_gets_arrays_that_it_takes(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Programs that stand for Slurm's note what they are given."""
    pytest.importorskip("submitit", reason=NO_SUBMITIT)
    tools = project.parent / "tools"
    tools.mkdir()
    said = project.parent / "said"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    command = ["sweep", "few", "--submit", "slurm", "--jobs", "2", "--time", "90", "--slurm", "account=x"]
    if shutil.which("sbatch") is None:
        assert cli.main(command) == 1
        assert "needs sbatch and srun, which are not on this machine's PATH" in capsys.readouterr().err
    for name, text in SLURM.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_SAID", str(said))
    assert cli.main(command) == 0
    assert capsys.readouterr().out == "3 jobs in Slurm's 7, 7; logs in .osr/sweeps/few/logs\n"
    lines = [line.removeprefix("#SBATCH --") for line in said.read_text().splitlines() if "#SBATCH" in line]
    assert lines.count("array=0-1%2") == 1, "the second is one job"
    for option in ("time=90", "signal=USR2@120", "requeue", "account=x", "cpus-per-task=4", "mem=16GB"):
        assert lines.count(option) == 2, option


def options(**changes: object) -> argparse.Namespace:
    held = {"submit": "local", "jobs": 3, "time": 5, "requeue": 3, "gpus": 0, "slurm": []}
    return argparse.Namespace(**{**held, **changes})


def test_a_job_whose_time_is_over_is_begun_again(project: Path) -> None:
    pytest.importorskip("submitit", reason=NO_SUBMITIT)
    settings = {"plot": {"dpi": 91}}
    (project / ".osr").mkdir(exist_ok=True)
    from osr.stored.digests import digest_of

    folder = project / ".osr" / "sweeps" / "late" / digest_of([git("rev-parse", "HEAD"), settings])
    folder.mkdir(parents=True)
    (folder / "hang").touch()
    assert submit("late", [settings], options(time=0.25)) == 0
    assert not (folder / "hang").exists()
    assert rows(project) == [("91", "FINISHED")]
    (log,) = (project / ".osr" / "sweeps" / "late" / "logs").rglob("*_log.err")
    assert "timed-out" in log.read_text()


def test_a_killed_job_is_neither_lost_nor_doubled(project: Path) -> None:
    pytest.importorskip("submitit", reason=NO_SUBMITIT)
    assert len(run_with_kills(project, "few", kills=2, jobs=2)) == 2
    assert rows(project) == all_once([91, 92, 93])


@pytest.mark.parametrize(("name", "kills"), [("few", 1), pytest.param("many", 25, marks=pytest.mark.slow)])
def test_a_slurm_of_one_machine(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, kills: int
) -> None:
    pytest.importorskip("submitit", reason=NO_SUBMITIT)
    if shutil.which("sinfo") is None:
        pytest.skip(NO_SLURM)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    assert len(run_with_kills(project, name, kills=kills, jobs=3, cluster="slurm")) == kills
    assert len({row for row in rows(project) if row[1] == "FINISHED"}) == len(rows(project)) in (3, 60)


@pytest.mark.slow
def test_sixty_jobs_with_random_kills(project: Path) -> None:
    pytest.importorskip("submitit", reason=NO_SUBMITIT)
    assert len(run_with_kills(project, "many", kills=25, jobs=4)) == 25
    assert rows(project) == all_once(list(range(101, 161)))
    assert not list(project.rglob(CLONE))


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_sixty_jobs_six_of_them_real_with_random_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    """Six run the stages of this repository on digits with one epoch, the others a stand-in for `osr run`."""
    pytest.importorskip("submitit", reason=NO_SUBMITIT)
    if cluster == "slurm" and shutil.which("sinfo") is None:
        pytest.skip(NO_SLURM)
    made = create_with_real_runs(tmp_path / "project")
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{made.root}/mlflow.db")
    connect(made.root)
    ended = run_with_kills(made.root, "many", kills=25, jobs=2, cluster=cluster, pause_s=(2, 12))
    assert len(ended) == 25
    assert any("-m dvc repro" in command for commands in ended for command in commands), "of a real run"
    assert rows(made.root) == all_once(list(range(101, 161)))
    real = [row for row in made.rows() if int(row.data.params["plot.dpi"]) in REAL]
    assert len(real) == 6
    for row in real:
        assert_complete(row)


@pytest.mark.ci
def test_a_stage_that_dvc_was_killed_before_it_noted_goes_on_in_the_row_of_its_job(tmp_path: Path) -> None:
    """DVC runs such a stage again; what it says of it is done twice by hand here."""
    toy = create(tmp_path / "toy")
    for _ in range(2):
        toy.python("toy", "prepare-split", OSR_SAME_ROW="1")
    toy.python("toy", "train", OSR_SAME_ROW="1")
    toy.python("toy", "train", OSR_SAME_ROW="1")
    (row,) = toy.rows()
    assert states(row) == {"prepare-split": "done", "train": "done"}
    assert toy.curve(row) == [0, 1, 2]
    toy.python("toy", "train")
    assert len(toy.rows()) == 2, "elsewhere a stage that runs again is another execution"


@pytest.mark.slow
def test_real_runs_that_are_killed_go_on_in_their_rows(tmp_path: Path) -> None:
    """Two experiments of the toy project, whose stages are real ones of DVC with rows in MLflow."""
    pytest.importorskip("submitit", reason=NO_SUBMITIT)
    toy = create(tmp_path / "toy")
    (toy.root / "sweeps").mkdir()
    (toy.root / "sweeps" / "two.yaml").write_text("grid: {plot.dpi: [98, 99]}\n")
    commit_all(toy, "a sweep")
    command = [sys.executable, "-m", "pipeline.cli", "sweep", "two", "--submit", "local", "--missing"]
    environment = toy.environment()
    for hanging in ("train", "plot", ""):
        hang = {"TOY_HANG": hanging} if hanging else {}
        program = subprocess.Popen(command, cwd=toy.root, env=environment | hang)
        if hanging:
            deadline = time.monotonic() + TIMEOUT_S
            while not list((toy.root / ".osr" / "sweeps").rglob("hanging")):
                assert program.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.5)
            for process in [*psutil.Process(program.pid).children(recursive=True), program]:
                process.kill()
            program.wait()
            for sign in (toy.root / ".osr" / "sweeps").rglob("hanging"):
                sign.unlink()
        else:
            assert program.wait(TIMEOUT_S) == 0
    found = toy.rows()
    assert sorted(row.data.params["plot.dpi"] for row in found) == ["98", "99"]
    for row in found:
        assert is_complete(row)
        assert set(states(row)) == set(STAGES)
