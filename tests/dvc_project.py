"""A DVC project on disk that tests drive, and the MLflow rows it leaves."""

import os
import subprocess
import sys
from pathlib import Path

from dvc_server import run_dvc
from mlflow.tracking import MlflowClient

FOREIGN = ("MLFLOW_", "DVC_", "OSR_", "GIT_", "RANK", "LOCAL_RANK", "NODE_RANK", "PYTHONDONTWRITEBYTECODE")
TIMEOUT_S = 600  # a busy machine is no mistake of ours


class Project:
    """A DVC project on disk, and what MLflow holds of it."""

    timeout_s = TIMEOUT_S

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, status: int = 0, **env: str) -> str:
        """Run a command of this environment, check its exit status, return all it printed."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment() | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.timeout_s,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def environment(self) -> dict[str, str]:
        """The environment of this process, as if activated and without what steers git, DVC or MLflow.

        What a process has compiled the next one finds: each project is a copy of the code, which others run.
        """
        clean = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return clean | {"PATH": path, "DVC_SITE_CACHE_DIR": str(self.root.parent / "site")}

    def python(self, *arguments: str, status: int = 0, **env: str) -> str:
        return self.run(sys.executable, "-m", *arguments, status=status, **env)

    def dvc(self, *arguments: str, status: int = 0, **env: str) -> str:
        whole = self.environment() | env
        ended, said = run_dvc(arguments, cwd=self.root, env=whole, timeout_s=self.timeout_s)
        assert ended == status, said
        return said

    def knob(self, stage: str, text: str) -> None:
        """Change a stage as an edit of its code would."""
        (self.root / "knobs" / stage).write_text(text)

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.root}/mlflow.db")

    def rows(self) -> list:
        """All rows, oldest first; none may be RUNNING once an execution is over."""
        client = self.client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        rows = client.search_runs(experiments, order_by=["attributes.start_time ASC"])
        assert not [row for row in rows if row.info.status == "RUNNING"]
        return rows

    def curve(self, row) -> list[int]:
        return sorted(point.step for point in self.client.get_metric_history(row.info.run_id, "train/loss"))

    def artifacts(self, row, folder: str) -> list[str]:
        return [entry.path for entry in self.client.list_artifacts(row.info.run_id, folder)]


def states(row) -> dict[str, str]:
    prefix = "osr.stage."
    return {key.removeprefix(prefix): value for key, value in row.data.tags.items() if key.startswith(prefix)}


def clone_of_this(root: Path) -> Project:
    """The present commit of this repository, in a new folder."""
    Project(root.parent).run("git", "clone", "--quiet", str(Path(__file__).parents[1]), str(root))
    return Project(root)


def commit_all(project: Project, message: str) -> None:
    """Commit everything in the project's folder, in a new repository if there is none.

    The date is fixed, so that the same files make the same commit.
    """
    when = "2026-01-01T00:00:00Z"
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.name", "Tester")
    project.run("git", "config", "user.email", "tester@example.org")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", message, GIT_AUTHOR_DATE=when, GIT_COMMITTER_DATE=when)
