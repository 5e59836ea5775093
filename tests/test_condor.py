"""HTCondor's own parser makes jobs of the files that `osr sweep --submit condor` and docs/jobs give it.

There is no HTCondor here that could run them: tests/test_slurm.py and tests/test_jobs.py run one as it would.
"""

import shlex
import sys
from pathlib import Path

import pytest
from test_slurm import project  # noqa: F401 (fixture)

from pipeline import cli

ROOT = Path(__file__).parents[1]
STORE = "http://tracking.example.org:5000"
TIME_IS_OVER, BY_USER = 47, 1  # codes of HTCondor for why a job is held

pytestmark = pytest.mark.filterwarnings("ignore:.*CONDOR_CONFIG.*:UserWarning")


def jobs_of(text: str) -> list:
    """What HTCondor would put into its queue: a ClassAd for each job."""
    htcondor = pytest.importorskip("htcondor", reason="HTCondor is not installed: .ci/extras condor")
    submit = htcondor.Submit(text)
    items = list(submit.itemdata() or ())
    return list(submit.jobs(count=1, itemdata=iter(items)) if items else submit.jobs())


def environment_of(job) -> dict[str, str]:
    return dict(part.split("=", 1) for part in shlex.split(job["Environment"]))


@pytest.mark.parametrize("gpus", [0, 2])
def test_a_sweep_is_one_job_per_experiment(
    project: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORE)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    limits = ["--jobs", "2", "--time", "9", "--requeue", "3", "--cpus", "5", "--memory", "7"]
    assert cli.main(["sweep", "few", "--submit", "condor", *limits, "--gpus", str(gpus)]) == 0
    jobs = jobs_of(Path(".osr/sweeps/few/condor.sub").read_text())
    folders = sorted(path.parent for path in (project / ".osr" / "sweeps" / "few").glob("*/job.json"))
    arguments = [shlex.split(job["Arguments"]) for job in jobs]
    assert sorted(words[:2] for words in arguments) == [["-m", "pipeline.experiments.job"]] * 3
    assert sorted(Path(words[2]) for words in arguments) == folders
    for job in jobs:
        assert (job["Cmd"], job["Iwd"], job["ShouldTransferFiles"]) == (sys.executable, str(project), "NO")
        assert environment_of(job)["MLFLOW_TRACKING_URI"] == STORE
        assert environment_of(job)["PYTHONPATH"] == str(project)
        assert (job["RequestCpus"], job["RequestMemory"], job.get("RequestGPUs", 0)) == (5, 7 * 1024, gpus)
        assert (job["AllowedExecuteDuration"], job["JobMaxVacateTime"]) == (540, 120)
        assert job["KillSig"] == "SIGTERM"
    assert len({job["Out"] for job in jobs}) == 3
    assert Path(jobs[0]["Out"]).parent.is_dir(), "HTCondor makes no folder"


@pytest.mark.usefixtures("project")
def test_what_has_ended_is_begun_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORE)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    assert cli.main(["sweep", "few", "--submit", "condor", "--requeue", "3"]) == 0
    job = jobs_of(Path(".osr/sweeps/few/condor.sub").read_text())[0]

    def leaves(times: int, **end: object) -> bool:
        job["NumJobCompletions"] = times
        for key, value in end.items():
            job[key] = value
        return job.eval("OnExitRemove") is True

    assert leaves(1, ExitCode=0)
    assert not leaves(1, ExitCode=1)
    assert not leaves(3, ExitCode=143)
    assert leaves(4, ExitCode=1)
    for reason, starts, released in (
        (TIME_IS_OVER, 1, True),
        (TIME_IS_OVER, 3, True),
        (TIME_IS_OVER, 4, False),
        (BY_USER, 1, False),
    ):
        job["HoldReasonCode"], job["NumJobStarts"] = reason, starts
        assert job.eval("PeriodicRelease") is released


def test_the_template_for_hand_is_five_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PWD", str(ROOT))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORE)
    jobs = jobs_of((ROOT / "docs/jobs/condor.sub").read_text())
    assert [shlex.split(job["Arguments"]) for job in jobs] == [
        ["mnist_classifier32", f"split.trial={trial} train.lr=0.1"] for trial in range(5)
    ]
    for job in jobs:
        assert Path(job["Iwd"], job["Cmd"]) == ROOT / "docs/jobs/condor.sh"
        assert environment_of(job) == {"OSR_HOME": str(ROOT), "MLFLOW_TRACKING_URI": STORE}
