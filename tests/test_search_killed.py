"""`osr search` that is killed in the middle of a trial keeps finished trials, and doubles no trial or row."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_search import NO_OPTUNA, TIMEOUT_S, environment, project, space  # noqa: F401 (fixture)

TRIALS = 3


def study(folder: Path) -> list:
    """The trials so far; none before the database is there."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    address = f"sqlite:///{folder / 'optuna.db'}"
    try:
        (name,) = optuna.get_all_study_names(address)
        return optuna.load_study(study_name=name, storage=address).trials
    except (ValueError, KeyError, SQLAlchemyError):
        return []


def is_in_a_trial(folder: Path, after: int) -> bool:
    """Whether so many trials are complete and the training of another one has left something."""
    if not (folder / "optuna.db").is_file():
        return False
    states = [trial.state.name for trial in study(folder)]
    files = [file for file in (folder / ".osr" / "search").rglob("*") if file.is_file()]
    has_begun = any(file.name != "lock" for file in files)
    return states.count("COMPLETE") == after and states.count("RUNNING") == 1 and has_begun


@pytest.mark.slow
def test_a_search_killed_in_a_trial_keeps_the_finished_ones(
    project: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """SIGKILL in the second trial and again in the third; then it runs to its end."""
    pytest.importorskip("optuna", reason=NO_OPTUNA)
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("OSR_TRACKING")
    space(("train.epochs: 2", "train.epochs: 1"), ("trainings: 1", "trainings: 2"))
    command = [sys.executable, "-m", "pipeline.cli", "search", "space.yaml"]
    kept: list[tuple] = []
    for after in range(1, TRIALS):
        program = subprocess.Popen(command, env=environment(), start_new_session=True)
        deadline = time.monotonic() + TIMEOUT_S
        while not is_in_a_trial(project, after):
            assert program.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        program.send_signal(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL
        finished = [told(trial) for trial in study(project) if trial.state.name == "COMPLETE"]
        assert finished[: len(kept)] == kept
        assert len(finished) == after
        kept = finished
    done = subprocess.run(command, env=environment(), timeout=TIMEOUT_S, check=True, capture_output=True)
    trials = study(project)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert [told(trial) for trial in trials][: len(kept)] == kept
    best = max(trials, key=lambda trial: trial.value)
    assert f"space: trial {best.number} of {TRIALS}".encode() in done.stdout
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")  # MLflow keeps what it opened by its name
    rows = client.search_runs([client.get_experiment_by_name("osr").experiment_id])
    assert {row.info.status for row in rows} == {"FINISHED"}
    marks = [row.data.tags.get("osr.search.trial", "the search") for row in rows]
    assert sorted(marks) == [*map(str, range(TRIALS)), "the search"]
    assert "Traceback" not in capfd.readouterr().err + done.stderr.decode()


def told(trial) -> tuple:
    """What a trial that is done anew would have otherwise."""
    return trial.number, trial.value, trial.params, trial.datetime_start, trial.datetime_complete
