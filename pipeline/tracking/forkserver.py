"""A process that has loaded MLflow, which takes seconds, and forks a keeper for each stage that asks.

A stage that finds none starts it. It serves one user, one Python and one set of MLflow's variables, and ends
when nobody has asked for `IDLE_S` seconds and no keeper is at work. A keeper has code, folder, environment
and terminal of its own stage.
"""

from __future__ import annotations

import fcntl
import gc
import hashlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

IDLE_S = 20.0
_LOOK_EVERY_S = 1.0
_SHAPES_IMPORTS = ("MLFLOW_", "PYTHON", "DATABRICKS_", "OTEL_")  # variables that are read while MLflow loads
DONE = b"done"
_LOADED = ("mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store", "filelock", "psutil")

_started: list[subprocess.Popen[bytes]] = []  # they outlive this process; one that is dropped gives a warning


def ask_for_keeper() -> socket.socket:
    """A connection to a new keeper, which reads lines of JSON; it says `DONE` last where all went well."""
    address = _address()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except OSError:  # nobody listens there
        connection.close()
        connection = _start(address)
    socket.send_fds(connection, [b"\0"], [1, 2])
    own = {"environ": dict(os.environ), "folder": os.getcwd(), "path": sys.path}  # noqa: PTH109
    connection.sendall(json.dumps(own).encode() + b"\n")
    return connection


def _address() -> str:
    """Where the server of this user, Python and environment listens: in a folder of this user alone."""
    environ = sorted(item for item in os.environ.items() if item[0].startswith(_SHAPES_IMPORTS))
    told = json.dumps([sys.executable, sys.prefix, environ, Path(__file__).read_text(encoding="utf-8")])
    folder = Path(tempfile.gettempdir()) / f"osr-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    held = folder.lstat()
    if held.st_uid != os.getuid() or held.st_mode & 0o077:  # somebody else could listen in it
        folder = Path(tempfile.mkdtemp(prefix="osr-"))
    return str(folder / hashlib.sha256(told.encode()).hexdigest()[:16])


def _start(address: str) -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, __file__, address, str(theirs.fileno())]
        # In a session of its own: what ends the stage's group of processes leaves a keeper its last word.
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=[theirs.fileno()]
        )
    _started.append(started)
    return ours


def main(address: str, first: int) -> None:
    """Serve the stage at the other end of the descriptor `first`, then all that ask at the address."""
    sys.path.pop(0)  # the folder of this file
    _load_mlflow()
    asking = socket.socket(fileno=first)
    held = _listen(address) if sys.platform == "linux" else None
    if held is None:  # another process listens there, or a fork would not be safe here
        _keep(asking)
    listener, lock = held
    keepers = {_fork(asking, listener, lock)}
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (1, 2):  # the terminal or pipe of the first stage
        os.dup2(nowhere, number)
    _serve(listener, lock, keepers)
    Path(address).unlink(missing_ok=True)  # from here on stages start another one; those at the door come in
    listener.setblocking(False)
    while (late := _accepted(listener)) is not None:
        _fork(late, listener, lock)


def _serve(listener: socket.socket, lock: int, keepers: set[int]) -> None:
    """Fork a keeper for each that asks, until nobody has asked and no keeper has worked for a while."""
    listener.settimeout(_LOOK_EVERY_S)
    used = time.monotonic()
    while time.monotonic() - used < IDLE_S:
        asking = _accepted(listener)
        if asking is not None:
            keepers.add(_fork(asking, listener, lock))
        keepers -= {pid for pid in keepers if os.waitpid(pid, os.WNOHANG)[0]}
        if keepers:
            used = time.monotonic()


def _accepted(listener: socket.socket) -> socket.socket | None:
    try:
        connection = listener.accept()[0]
    except (TimeoutError, BlockingIOError):
        return None
    connection.setblocking(True)
    return connection


def _listen(address: str) -> tuple[socket.socket, int] | None:
    """The listening socket and the lock of its address; None where another process holds it."""
    lock = os.open(f"{address}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    Path(address).unlink(missing_ok=True)  # of a server that was killed
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    return listener, lock


def _fork(asking: socket.socket, listener: socket.socket, lock: int) -> int:
    """Id of a new process that keeps the row of the stage at the other end."""
    pid = os.fork()
    if pid == 0:
        listener.close()
        os.close(lock)
        os.setsid()
        _keep(asking)
    asking.close()
    return pid


def _keep(asking: socket.socket) -> NoReturn:
    """Be the keeper of one stage, and end."""
    status = 1
    try:
        for sign in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sign, signal.SIG_IGN)  # the stage gets them, and says here how it ends
        descriptors = socket.recv_fds(asking, 1, 2)[1]
        for held, number in zip(descriptors, (1, 2), strict=False):
            os.dup2(held, number)
            os.close(held)
        lines = asking.makefile("r", encoding="utf-8")
        own = lines.readline()
        if own.endswith("\n"):  # else the stage ended before it had said who it is
            stage = json.loads(own)
            os.environ.clear()
            os.environ.update(stage["environ"])
            os.chdir(stage["folder"])
            sys.path[:] = stage["path"]
            from pipeline.tracking.keeper import keep

            keep(lines)
        with suppress(BrokenPipeError):  # of a stage that was killed, as its row says, and waits no more
            asking.sendall(DONE)
        status = 0
    except BaseException:  # noqa: BLE001 - this is where the process ends, and all of it is said
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what MLflow does when an interpreter ends takes half a second


def _load_mlflow() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    gc.disable()  # it would walk through half a million objects, which all stay
    for name in _LOADED:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
