"""`osr sweep NAME --submit`: the experiments of a sweep as jobs of Slurm, HTCondor, or this machine."""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osr.errors import InputError
from osr.stored.digests import digest_of
from pipeline.experiments.job import DONE, STORE, SweepJob, is_at_work, write_job
from pipeline.experiments.preset import Settings
from pipeline.workspace.git import git
from pipeline.workspace.place import workspace_root

if TYPE_CHECKING:
    from submitit import Job

FOLDER = Path(".osr/sweeps")
MISSING = "needs submitit: install the extra `slurm`, in a clone by uv pip install -e '.[slurm]'."
ARRAY = 1000  # tasks, where Slurm does not say how many an array may have
TIME_IS_OVER = 1  # HTCondor's HoldReasonSubCode, where HoldReasonCode is 3: PeriodicHold was true
_SIGNAL_S = 120  # between the warning and the time limit
_POLL_S = 0.5

logger = logging.getLogger("osr.sweep")

CONDOR = """\
# Written by `osr sweep {name} --submit condor`: condor_submit {file}
universe     = vanilla
executable   = {python}
arguments    = "-m pipeline.experiments.job '$(folder)'"
# The project lies on a disk that all machines see; each job has its clone there, and goes on in it.
initialdir   = {home}
environment  = "PYTHONPATH='{home}' PATH='{path}' MLFLOW_TRACKING_URI='$ENV(MLFLOW_TRACKING_URI)'"
should_transfer_files = NO
request_cpus   = {cpus}
request_memory = {memory}GB
{gpus}# An expression, since HTCondor 23.9 forgets allowed_execute_duration of jobs with max_materialize.
periodic_hold         = JobStatus == 2 && time() - EnteredCurrentStatus > {seconds}
periodic_hold_reason  = "The job's time is over"
periodic_hold_subcode = {time_is_over}
# SIGTERM first, so that the row becomes KILLED; SIGKILL after two minutes. What was ended is begun again.
kill_sig            = SIGTERM
job_max_vacate_time = {signal_s}
max_retries         = {requeue}
# A job that is held because its time is over goes back into the queue, too.
periodic_release    = HoldReasonCode == 3 && HoldReasonSubCode == {time_is_over} && NumJobStarts <= {requeue}
max_materialize     = {jobs}
log    = {home}/{logs}/condor.log
output = {home}/{logs}/$(Cluster)-$(Process).out
error  = {home}/{logs}/$(Cluster)-$(Process).err
queue folder from (
{folders}
)
"""


def submit(name: str, experiments: Sequence[Settings], options: argparse.Namespace) -> int:
    """Submit one job per experiment, but for those that a process is at work on.

    Args:
        name: of the sweep.
        experiments: what each changes in params.yaml.
        options: of the command line.

    Returns:
        0; of local jobs, which are waited for, 1 where one failed.

    Raises:
        InputError: submitit, the scheduler, a store that all jobs reach, or a commit is missing.
    """
    commit, home = git("rev-parse", "HEAD"), workspace_root()
    if commit is None:
        raise InputError("Jobs work in clones of their own, which needs git and a commit.")
    if git("status", "--porcelain", "--untracked-files=no"):
        logger.warning("changes that are not committed are no part of the jobs: %s counts", commit[:8])
    if options.submit == "local":
        os.environ.setdefault(STORE, f"sqlite:///{home / 'mlflow.db'}")
    elif not os.environ.get(STORE):
        raise InputError(f"{STORE} must name a server that all jobs reach; --submit local needs none.")
    if options.submit != "condor":
        _check_submitit(options.submit)
    folders = []
    cache = _cache()
    for experiment in experiments:
        folder = home / FOLDER / name / digest_of([commit, experiment])
        if is_at_work(folder):
            logger.info("%s is at work already", folder.relative_to(home))
            continue
        write_job(folder, experiment, home=home, commit=commit, cache=cache)
        folders.append(folder)
    logs = FOLDER / name / "logs"
    (home / logs).mkdir(parents=True, exist_ok=True)
    if not folders:
        sys.stdout.write(f"all {len(experiments)} are at work\n")
        return 0
    runs = {"slurm": _slurm, "condor": _condor, "local": _local}
    return runs[options.submit](name, folders, logs, options)


def _slurm(name: str, folders: Sequence[Path], logs: Path, options: argparse.Namespace) -> int:
    import submitit

    executor = submitit.SlurmExecutor(folder=logs / "%j", max_num_timeout=options.requeue)
    more = dict(_pair(text) for text in options.slurm)
    gpus = {"gpus_per_node": options.gpus} if options.gpus else {}
    executor.update_parameters(
        job_name=f"osr-{name}",
        time=options.time,
        cpus_per_task=options.cpus,
        mem=f"{options.memory}GB",
        array_parallelism=options.jobs,
        signal_delay_s=_SIGNAL_S,
        additional_parameters={"requeue": True, **more},
        **gpus,
    )
    most, ids = _largest_array(), []
    for start in range(0, len(folders), most):
        try:
            jobs = executor.map_array(SweepJob(), [str(folder) for folder in folders[start : start + most]])
        except submitit.core.utils.FailedJobError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f"Slurm refused the jobs from the {start + 1}th on: {reason}") from None
        ids += [jobs[0].job_id.partition("_")[0]]
    sys.stdout.write(f"{len(folders)} jobs in Slurm's {', '.join(ids)}; logs in {logs}\n")
    return 0


def _largest_array() -> int:
    """How many tasks one array may have, by Slurm's settings."""
    told = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", told, re.MULTILINE)
    return max(1, int(found[1]) - 1) if found else ARRAY


def _condor(name: str, folders: Sequence[Path], logs: Path, options: argparse.Namespace) -> int:
    home, file = workspace_root(), FOLDER / name / "condor.sub"
    text = CONDOR.format(
        name=name,
        file=file,
        python=sys.executable,
        home=home,
        path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        cpus=options.cpus,
        memory=options.memory,
        gpus=f"request_gpus = {options.gpus}\n" if options.gpus else "",
        seconds=60 * options.time,
        time_is_over=TIME_IS_OVER,
        signal_s=_SIGNAL_S,
        requeue=options.requeue,
        jobs=options.jobs,
        logs=logs,
        folders="\n".join(map(str, folders)),
    )
    file.write_text(text, encoding="utf-8")
    if shutil.which("condor_submit") is None:
        sys.stdout.write(f"{len(folders)} jobs in {file}: condor_submit {file}, where HTCondor is\n")
        return 0
    return subprocess.run(["condor_submit", str(file)], check=False).returncode


def _local(name: str, folders: Sequence[Path], logs: Path, options: argparse.Namespace) -> int:
    """So many jobs at once as `--jobs` says, until all are over."""
    import submitit

    executor = submitit.LocalExecutor(folder=logs / "%j", max_num_timeout=options.requeue)
    limits = {"timeout_min": options.time, "signal_delay_s": min(_SIGNAL_S, 15 * options.time)}
    executor.update_parameters(**limits, gpus_per_node=options.gpus)
    waiting = list(folders)
    running: list[Job[None]] = []
    try:
        while waiting or running:
            running = [job for job in running if not job.done()]
            while waiting and len(running) < options.jobs:
                running.append(executor.submit(SweepJob(), str(waiting.pop(0))))
            time.sleep(_POLL_S)
    except BaseException:
        for job in running:
            job.cancel(check=False)
        raise
    finished = sum((folder / DONE).is_file() for folder in folders)
    told = f"{finished} of {len(folders)} experiments finished"
    if finished < len(folders):
        told += f"; logs in {logs}, and `osr sweep {name} --submit local --missing` goes on with the others"
    sys.stdout.write(f"{told}\n")
    return 0 if finished == len(folders) else 1


def _check_submitit(cluster: str) -> None:
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise InputError(f"--submit {cluster} {MISSING}") from None
    if cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise InputError("--submit slurm needs sbatch and srun, which are not on this machine's PATH.")


def _cache() -> str:
    """DVC's cache of this project, which the clones share."""
    answer = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise InputError(f"DVC cannot say where its cache is: {' '.join(answer.stderr.split())}")
    return answer.stdout.strip()


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not re.fullmatch(r"[a-z][a-z-]*", key):
        raise InputError(f"--slurm {text}: must be an option of sbatch, such as partition=gpu.")
    return key, value if equals else True
