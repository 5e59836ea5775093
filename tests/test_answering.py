"""A store that is dead, hangs or is no database is found out in seconds, once; odd folders hold a store."""

import re
import socket
import sqlite3
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tracking_server import free_port

from pipeline.tracking import answering, store
from pipeline.tracking.answering import check_answers


@pytest.fixture
def port():
    """A port at which somebody listens and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg2"])
def test_a_dead_server(scheme):
    before = time.monotonic()
    with pytest.raises(ConnectionError, match=r"://127.0.0.1 does not answer: .*refused"):
        check_answers(f"{scheme}://somebody:secret@127.0.0.1:{free_port()}/rows")
    assert time.monotonic() - before < answering.ANSWER_S + 1


@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql"])
def test_a_server_that_hangs(port, monkeypatch, scheme):
    monkeypatch.setattr(answering, "ANSWER_S", 0.3)
    with pytest.raises(ConnectionError, match=r"does not answer: (timed out|no answer within 0.3 s)"):
        check_answers(f"{scheme}://127.0.0.1:{port}/rows")


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("http://[::1", "the address of the store is none: Invalid IPv6 URL"),
        ("http://127.0.0.1:99999", "the address of the store is none: Port out of range"),
        ("postgresql://127.0.0.1:a/rows", "the address of the store is none: Port could not be cast"),
        ("http://", "does not answer: <urlopen error no host given>"),
        ("mssql+nothing:///rows", "Can't load plugin"),
        ("cockroach://127.0.0.1/rows", "Invalid tracking URI|Model registry functionality|Can't load plugin"),
    ],
)
def test_an_address_of_no_store(tmp_path, monkeypatch, caplog, uri, sentence):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with store.store_may_fail("the stage runs all the same."):
        store.connect(tmp_path)
    assert re.search(sentence, caplog.text)
    assert caplog.text.count("MLflow was not updated") == 1


def test_a_store_whose_driver_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mysql:///rows")
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    with pytest.raises(ConnectionError, match=r"kind mysql needs a package that is missing \(.*MySQLdb"):
        store.connect(tmp_path)


def test_an_empty_address_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert store._tracking_uri(tmp_path) == f"{answering.SQLITE}{tmp_path}/mlflow.db"


@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized", "404 Not Found"])
def test_any_answer_is_one(status):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer():
            connection = listener.accept()[0]
            with connection:
                connection.recv(4096)
                connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

        threading.Thread(target=answer, daemon=True).start()
        check_answers(f"http://127.0.0.1:{listener.getsockname()[1]}/")


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "mlflow.db"
    uri = f"{answering.SQLITE}{path}"
    check_answers(uri)  # there is none yet
    path.write_bytes(b"")
    check_answers(uri)
    path.write_text("not a database, but long enough")
    with pytest.raises(ConnectionError, match=r"mlflow.db is no SQLite database: move it away"):
        check_answers(uri)
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("create table t (x)")
    check_answers(uri)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConnectionError, match=r"mlflow.db is no file"):
        check_answers(uri)


def test_what_no_address_holds_is_left_to_the_folder():
    assert store._from_folder("sqlite:////plain folder/mlflow.db") == "sqlite:////plain folder/mlflow.db"
    for odd in ("?", "#", "%20"):
        assert store._from_folder(f"sqlite:////a{odd}b/mlflow.db") == "sqlite:///mlflow.db"
    assert store._from_folder("http://host/a?b") == "http://host/a?b"


@pytest.mark.slow
def test_a_folder_whose_name_no_address_holds(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "a b?c%20d#e"
    root.mkdir()
    monkeypatch.chdir(tmp_path)
    held = store.connect(root)
    run = held.client.create_run(held.experiment).info.run_id
    held.client.log_text(run, "text", "a.txt")
    assert sorted(path.name for path in root.iterdir()) == [".osr", "mlartifacts", "mlflow.db"]
    assert [path.name for path in tmp_path.iterdir()] == [root.name]
    assert [file.path for file in held.client.list_artifacts(run)] == ["a.txt"]


def experiment_at(location):
    found = SimpleNamespace(experiment_id="1", artifact_location=location)
    client = SimpleNamespace(get_experiment=lambda _: found, get_experiment_by_name=lambda _: found)
    return store._experiment(client, "sqlite:///mlflow.db", Path())


@pytest.mark.parametrize("variable", ["MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"])
def test_artifacts_that_would_land_outside_are_refused(variable, monkeypatch):
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    monkeypatch.setenv(variable, "1")
    for location in ("/a b?c#d/1", "/a%zb/1", "file:///a%2520b/1", "mlflow-artifacts:/a%20b"):
        assert experiment_at(location) == "1"
    with pytest.raises(ConnectionError, match=r"a path without %.*into /a b/1, not /a%20b/1"):
        experiment_at("/a%20b/1")
