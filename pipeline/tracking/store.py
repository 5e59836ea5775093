"""The MLflow store of this workspace: where it lies, how to reach it, and rows whose process died."""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import os
import platform
import sys
import textwrap
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from osr.errors import first_line
from pipeline.tracking.answering import SQLITE, check_answers
from pipeline.tracking.provenance import user

logger = logging.getLogger("osr.tracking")

OWNER = "osr.owner"
STAGE = "osr.stage."
KILLED = "KILLED"
SAME_ROW = (
    "OSR_SAME_ROW"  # in the environment: every stage of this workspace and these params is one execution's
)
FINISHED_STATES = ("done", "cached")  # of a stage, in its tag
LATER = "the results are safe as files; the next stage or `osr tracking sync` sends them."
_ENTRY_POINT = "mlflow.project.entryPoint"
_NO_PART_OF_A_URI = frozenset("?#%")
_LOCK_TIMEOUT_S = 120
_MAX_REASON_LENGTH = 300
_CLOCK_TOLERANCE_S = 2.0


@dataclass(frozen=True)
class Store:
    """A connection to MLflow.

    Args:
        client: an `MlflowClient`.
        experiment: id of the experiment that new rows go to.
        root: the main workspace.
        workspace: random id of that workspace, so that rows of other workspaces are never joined.
        uri: its address.
    """

    client: Any
    experiment: str
    root: Path
    workspace: str
    uri: str


def connect(root: Path) -> Store:
    """Reach the store, create what is missing in it, and close rows whose process is dead.

    Raises:
        MlflowException, SQLAlchemyError, OSError: the store cannot be reached.
    """
    uri = _tracking_uri(root)
    check_answers(uri)
    with _importing_mlflow():
        from filelock import FileLock

    for chatty in ("alembic", "mlflow.store.db.utils"):  # a new database is no news
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # its retries end in our own message
    private = root / ".osr"
    private.mkdir(exist_ok=True)
    folder = _folder(uri, root)
    # The lock: processes that create the tables of one sqlite file at the same time fail. The folder: MLflow
    # puts the artifacts of its Default experiment below the working directory of whoever creates the tables.
    with FileLock(private / "mlflow.lock", timeout=_LOCK_TIMEOUT_S), contextlib.chdir(folder):
        client = client_of(uri)
        store = Store(client, _experiment(client, uri, folder), root, _workspace_id(private), uri)
        _reap(store)
    return store


def is_begun(root: Path) -> bool:
    """Whether there is a store to read, or the address of one: `connect` would make a missing file."""
    uri = _tracking_uri(root)
    return not uri.startswith(SQLITE) or Path(uri.removeprefix(SQLITE)).exists()


def client_of(uri: str) -> Any:
    """MLflow's client of a store.

    Raises:
        ConnectionError: this kind of store needs a package that is not installed.
    """
    with _importing_mlflow():  # the kind of the store is imported here, too
        from mlflow.tracking import MlflowClient

        try:
            return MlflowClient(tracking_uri=_from_folder(uri))
        except ImportError as error:
            kind = uri.partition(":")[0]
            raise ConnectionError(
                f"a store of kind {kind} needs a package that is missing ({error})"
            ) from None


@contextlib.contextmanager
def store_may_fail(consequence: str) -> Iterator[None]:
    """Report that the store failed, and go on: results are files, MLflow only mirrors them.

    `MlflowException` is all that MLflow's REST client raises, `SQLAlchemyError` what its database store lets
    through, `OSError` covers artifact folders, the lock file and sockets.
    """
    with _importing_mlflow():
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        logger.error(
            "MLflow was not updated (%s: %s); %s",
            type(error).__name__,
            textwrap.shorten(first_line(error), _MAX_REASON_LENGTH),  # connection errors hold long addresses
            consequence,
        )


def owner() -> str:
    """This process, for the owner tag: host:pid:start time."""
    import psutil

    return f"{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.1f}"


def is_alive(owner: str) -> bool:
    """Whether the process of an owner tag of this host still runs."""
    import psutil

    _, pid, started = owner.rsplit(":", 2)
    try:
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(started)) < _CLOCK_TOLERANCE_S
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


@contextlib.contextmanager
def _importing_mlflow() -> Iterator[None]:
    """Say what MLflow reads when it is imported, and keep the garbage collector from walking through it.

    MLflow's default of 7 retries would hold a stage for four minutes per call when a server is down. Half a
    million objects come with it and all of them stay: looking for garbage among them takes 0.4 s while they
    come, and half a second more when the interpreter ends.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if "mlflow" not in sys.modules:
        atexit.register(gc.freeze)
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _reap(store: Store) -> None:
    """Set RUNNING rows to KILLED whose process was one of this machine and is dead."""
    # `mlflow run .` without --experiment-name lands in Default, whose id is 0.
    experiments = list({store.experiment, "0"})
    for row in store.client.search_runs(experiments, filter_string="attributes.status = 'RUNNING'"):
        if not _is_orphan(row):
            continue
        # It may have ended in an orderly way since the search; from here on nobody writes to the row.
        current = store.client.get_run(row.info.run_id)
        if current.info.status != "RUNNING" or not _is_orphan(current):
            continue
        for name, value in current.data.tags.items():
            if name.startswith(STAGE) and value == "running":
                store.client.set_tag(row.info.run_id, name, KILLED)
        store.client.set_terminated(row.info.run_id, KILLED)
        logger.warning(
            "the MLflow row %s was RUNNING, but its process is gone: set to KILLED", row.info.run_id
        )


def _is_orphan(row: Any) -> bool:
    """Whether the owner of a RUNNING row died, or the `mlflow run` that made the row and came to no stage."""
    tags = row.data.tags
    if OWNER in tags:
        return tags[OWNER].startswith(f"{platform.node()}:") and not is_alive(tags[OWNER])
    return _ENTRY_POINT in tags and tags.get("mlflow.user") == user() and not _mlflow_run_is_at_work()


def _mlflow_run_is_at_work() -> bool:
    """Whether a process of this machine is an `mlflow run`: it may be making the project's environment."""
    import psutil

    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return any("run" in words and "mlflow" in (Path(word).name for word in words) for words in commands)


def _tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI or the workspace's sqlite file; relative sqlite paths start at the workspace.

    The path of a sqlite file is as on disk: `mlflow run` hands it over quoted, and SQLAlchemy unquotes it.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return f"{SQLITE}{root / 'mlflow.db'}"
    return f"{SQLITE}{root / unquote(uri.removeprefix(SQLITE))}" if uri.startswith(SQLITE) else uri


def _from_folder(uri: str) -> str:
    """The address as MLflow takes it when it is connected to from the store's own folder.

    An address cannot hold all that a path can.
    """
    return f"{SQLITE}{Path(uri).name}" if uri.startswith(SQLITE) and _NO_PART_OF_A_URI & set(uri) else uri


def _folder(uri: str, root: Path) -> Path:
    """Where artifacts go: beside the sqlite file, since a job's own clone goes away, else the workspace."""
    return Path(uri.removeprefix(SQLITE)).parent if uri.startswith(SQLITE) else root


def _experiment(client: Any, uri: str, folder: Path) -> str:
    """Id of the experiment, created when it is missing; a server decides itself where its artifacts go.

    Raises:
        ConnectionError: its artifacts would land outside the project.
    """
    from mlflow.exceptions import MlflowException

    if identifier := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        _check_location(client.get_experiment(identifier).artifact_location)
        return identifier
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "osr")
    found = client.get_experiment_by_name(name)
    if found is None:
        location = None if uri.startswith(("http", "databricks")) else (folder / "mlartifacts").as_uri()
        try:
            # The kind opens the page on the table of training runs.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(name, artifact_location=location, tags=kind))
        except MlflowException:
            # Another machine may have created it on the shared server since we asked.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    _check_location(found.artifact_location)
    return str(found.experiment_id)


def _check_location(location: str) -> None:
    """Refuse artifacts that would land outside the project: `mlflow run` does not quote the path it is in.

    Raises:
        ConnectionError: MLflow takes characters of this path for others.
    """
    if ":" not in location and unquote(location) != location:
        raise ConnectionError(
            "move the project to a path without %, or use `osr run` and a new mlflow.db: `mlflow run` made "
            f"the experiment, and MLflow would put its files into {unquote(location)}, not {location}"
        )


def _workspace_id(private: Path) -> str:
    """The random name of this workspace; made once, under the lock."""
    path = private / "workspace"
    if not path.exists():
        path.write_text(uuid.uuid4().hex, encoding="utf-8")
    return path.read_text(encoding="utf-8")
