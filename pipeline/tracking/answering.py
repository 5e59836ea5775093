"""Whether a store answers, asked before MLflow is: its own retries would hold a stage for a minute."""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

SQLITE = "sqlite:///"
ANSWER_S = 2.0  # a stage asks when it begins and when it ends, while nothing else waits for a dead store
_SQLITE_HEAD = b"SQLite format 3\0"
# Port, and what is said to a server so that it says something; None: it is only connected to.
_SERVERS: dict[str, tuple[int, bytes | None]] = {
    "postgresql": (5432, bytes.fromhex("00000008 04d2162f")),  # whether it speaks TLS
    "mysql": (3306, b""),  # it greets first
    "mssql": (1433, None),
}


def check_answers(uri: str) -> None:
    """Ask a store for a sign of life: a server for any answer, a file for being a database.

    Args:
        uri: of the store; a kind that is neither is not asked.

    Raises:
        ConnectionError: it does not answer within `ANSWER_S`, the file is no SQLite database, or this is no
            address.
    """
    if uri.startswith(SQLITE):
        _check_file(Path(uri.removeprefix(SQLITE)))
        return
    try:
        address = urlsplit(uri)
        address.port  # noqa: B018 - read when it is asked for
    except ValueError as error:
        raise ConnectionError(f"the address of the store is none: {error}") from None
    found: list[str] = []
    asking = threading.Thread(
        target=lambda: found.append(_problem(address)), daemon=True
    )  # names resolve slowly
    asking.start()
    asking.join(ANSWER_S)
    problem = found[0] if found else f"no answer within {ANSWER_S:g} s"
    if problem:
        raise ConnectionError(f"{address.scheme}://{address.hostname} does not answer: {problem}")


def _problem(address: SplitResult) -> str:
    """Why a server gives no answer; empty where it gives one, whatever it says."""
    try:
        if address.scheme in ("http", "https"):
            place = address.netloc.rpartition("@")[2] + address.path.rstrip("/")
            with urllib.request.urlopen(f"{address.scheme}://{place}/health", timeout=ANSWER_S):
                return ""
        kind = address.scheme.partition("+")[0]
        if address.hostname and kind in _SERVERS:
            port, asked = _SERVERS[kind]
            with socket.create_connection((address.hostname, address.port or port), ANSWER_S) as connection:
                if asked is not None:
                    connection.sendall(asked)
                    return "" if connection.recv(1) else "it hangs up"
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    return ""


def _check_file(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(len(_SQLITE_HEAD))
        if head and head != _SQLITE_HEAD:
            raise ConnectionError(f"{path} is no SQLite database: move it away, and a new one is made")
    elif path.exists():
        raise ConnectionError(f"{path} is no file: move it away, and a database is made")
