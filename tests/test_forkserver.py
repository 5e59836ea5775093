"""The process that has loaded MLflow and forks a keeper for each stage."""

import io
import os
import signal
import tempfile
from pathlib import Path

import psutil
import pytest

from pipeline.tracking import forkserver
from pipeline.tracking.keeper import keep

WAIT_S = 120


@pytest.fixture
def servers(tmp_path, monkeypatch):
    """Ids of the servers of a folder of this test alone; they are ended with it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = lambda: [process for process in forkserver._started if process.poll() is None]  # noqa: E731
    yield found
    for process in found():
        process.kill()
        process.wait()


def answer(connection, said=b""):
    """All that a keeper says to a stage that sends this and is gone."""
    connection.settimeout(WAIT_S)
    with connection:
        if said:
            connection.sendall(said)
        connection.shutdown(forkserver.socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(64), b""))


def test_stages_share_one_server_and_one_that_was_killed_is_replaced(servers, tmp_path, capfd):
    assert answer(forkserver.ask_for_keeper()) == forkserver.DONE, "it had not said what the row is of"
    (first,) = servers()
    assert answer(forkserver.ask_for_keeper(), b'{"no": "stage"}\n') == b""
    assert "unexpected keyword argument 'no'" in capfd.readouterr().err, "a keeper writes to its own stage"
    assert servers() == [first]
    assert psutil.Process(first.pid).cwd() == "/", "it holds no folder of a stage"
    assert (tmp_path / f"osr-{os.getuid()}").stat().st_mode & 0o077 == 0

    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert answer(forkserver.ask_for_keeper()) == forkserver.DONE
    (second,) = servers()
    assert second.pid != first.pid


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shared = tmp_path / f"osr-{os.getuid()}"
    shared.mkdir()
    shared.chmod(0o777)
    assert Path(forkserver._address()).parent != shared


@pytest.mark.parametrize("lines", ["", '{"stage": "train"'])
def test_a_stage_that_ended_in_its_first_line_has_no_row(lines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keep(io.StringIO(lines))
    assert not list(tmp_path.iterdir())
