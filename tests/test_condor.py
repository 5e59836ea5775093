"""HTCondor's own parser makes jobs of the files that `osr sweep --submit condor` and docs/jobs give it.

An HTCondor of one machine runs them where `.ci/condor` has started one.
"""

import shlex
import shutil
import sys
import time
from pathlib import Path

import pytest
from dvc_project import TIMEOUT_S
from swept_project import REAL, create_with_real_runs, rows, run_with_kills
from test_pipeline import assert_complete
from test_slurm import all_once, options, project, stand_in  # noqa: F401 (fixtures)

from osr.stored.digests import digest_of
from pipeline import cli
from pipeline.experiments.submit import submit
from pipeline.tracking.store import connect
from pipeline.workspace.git import git

ROOT = Path(__file__).parents[1]
STORE = "http://tracking.example.org:5000"
NO_CONDOR = 'no HTCondor here: eval "$(.ci/condor start FOLDER)" starts one'
IDLE, RUNNING = 1, 2  # HTCondor's JobStatus
BY_USER, BY_EXPRESSION = 1, 3  # its HoldReasonCode

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
        assert (job["KillSig"], job["JobMaxVacateTime"]) == ("SIGTERM", 120)
        for status, since, held in ((RUNNING, 541, True), (RUNNING, 530, False), (IDLE, 541, False)):
            job["JobStatus"], job["EnteredCurrentStatus"] = status, int(time.time()) - since
            assert job.eval("PeriodicHold") is held
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
    job["HoldReasonSubCode"] = job["PeriodicHoldSubCode"]
    for reason, starts, released in (
        (BY_EXPRESSION, 1, True),
        (BY_EXPRESSION, 3, True),
        (BY_EXPRESSION, 4, False),
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


needs_condor = pytest.mark.skipif(shutil.which("condor_q") is None, reason=NO_CONDOR)


@pytest.fixture
def pool(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """The project, whose jobs reach its store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    return project


@needs_condor
@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("few", 0),
        pytest.param("few", 2, marks=pytest.mark.slow),
        pytest.param("many", 25, marks=pytest.mark.slow),
    ],
)
def test_an_htcondor_of_one_machine(pool: Path, name: str, kills: int) -> None:
    assert len(run_with_kills(pool, name, kills=kills, jobs=3, cluster="condor")) == kills
    values = list(range(91, 94)) if name == "few" else list(range(101, 161))
    assert rows(pool) == all_once(values)


@needs_condor
@pytest.mark.slow
def test_a_job_whose_time_is_over_is_released(pool: Path) -> None:
    settings = {"plot": {"dpi": 91}}
    folder = pool / ".osr" / "sweeps" / "late" / digest_of([git("rev-parse", "HEAD"), settings])
    folder.mkdir(parents=True)
    (folder / "hang").touch()
    limits = options(submit="condor", time=0.25, cpus=1, memory=1)
    assert submit("late", [settings], limits) == 0
    log = pool / ".osr" / "sweeps" / "late" / "logs" / "condor.log"
    deadline = time.monotonic() + TIMEOUT_S
    while "Job terminated" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(1)
    assert rows(pool) == [("91", "FINISHED")]
    assert log.read_text().count("Job was held") == log.read_text().count("Job was released") == 1


@needs_condor
@pytest.mark.slow
def test_real_runs_in_htcondor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of 21 jobs run the stages of this repository on digits with one epoch, with five random kills."""
    made = create_with_real_runs(tmp_path / "project", number=21)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{made.root}/mlflow.db")
    connect(made.root)
    ended = run_with_kills(made.root, "many", kills=5, jobs=2, cluster="condor", pause_s=(2, 12))
    assert len(ended) == 5
    assert rows(made.root) == all_once(list(range(101, 122)))
    real = [row for row in made.rows() if int(row.data.params["plot.dpi"]) in REAL]
    assert len(real) == 3
    for row in real:
        assert_complete(row)
