"""Rows of other people: the finished run of a folder, or a store of MLflow; neither is written to."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from osr.errors import InputError
from pipeline.tracking.answering import SQLITE, check_answers
from pipeline.tracking.results import COMMIT, Result, read_files, results_of
from pipeline.tracking.rows_in_bulk import rows_of_client, rows_of_file
from pipeline.tracking.store import Store, client_of
from pipeline.workspace.git import git
from pipeline.workspace.stages import PARAMS

EXPERIMENT = "osr"


def read_source(source: str) -> list[Result]:
    """The finished runs of a folder or a store; each is called by where it came from.

    Args:
        source: a folder of a project with a finished run; an mlflow.db, also as sqlite:///…; or the address
            of an MLflow server. Of a store the experiment is MLFLOW_EXPERIMENT_NAME, or osr.

    Raises:
        InputError: it is none of these, or cannot be read, or holds no finished run with test metrics.
    """
    path = Path(source.removeprefix(SQLITE))
    if source.startswith(SQLITE) or path.is_file():
        found = _of_file(path)
    elif "://" in source:
        found = _of_server(source)
    else:
        found = [_of_folder(path)]
    if not found:
        raise InputError(f"{source} holds no finished run with test metrics.")
    return [replace(result, name=f"{source}: {result.name}") for result in found]


def _of_folder(folder: Path) -> Result:
    if not (folder / PARAMS).is_file():
        raise InputError(
            f"{folder} must be a folder with {PARAMS} and a finished run, an mlflow.db, or the address of an "
            "MLflow server."
        )
    try:
        with contextlib.chdir(folder):
            found = read_files()
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    commit = git("-C", str(folder), "rev-parse", "HEAD") if (folder / ".git").exists() else None
    params = {**found.params, **({COMMIT: commit} if commit else {})}
    return replace(found, name="its present run", params=params)


def _of_file(path: Path) -> list[Result]:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as tables:
            query = "SELECT experiment_id FROM experiments WHERE name = ?"
            found = tables.execute(query, (name,)).fetchone()
        return [] if found is None else results_of(rows_of_file(str(path), str(found[0]))).done
    except sqlite3.Error as error:
        raise InputError(f"{path} cannot be read as a store of MLflow ({error}).") from None


def _of_server(uri: str) -> list[Result]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    try:
        check_answers(uri)
        client = client_of(uri)
        found = client.get_experiment_by_name(name)
        if found is None:
            return []
        store = Store(client, str(found.experiment_id), Path(), "", uri)
        return results_of(rows_of_client(store)).done
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise InputError(f"{uri} cannot be read as a store of MLflow ({error}).") from None
