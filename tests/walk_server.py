"""Servers of a page: started, waited for, and ended with all that they have started."""

import fcntl
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from walk_printed import WalkError

WAIT_S = 300


@contextmanager
def served(command: Sequence[str], url: str, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A server, from its first answer at `url`. One at a time has a port, among all walks of this machine.

    Raises:
        WalkError: it ends, or does not answer.
    """
    port = urlsplit(url).port
    with (
        Path(tempfile.gettempdir(), f"osr-walk-{os.getuid()}-{port}").open("w") as lock,
        tempfile.TemporaryFile("w+") as printed,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if answers(url):
            raise WalkError(f"port {port} is taken by another server")
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=printed,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            end = time.monotonic() + WAIT_S
            while not answers(url):
                if server.poll() is not None or time.monotonic() > end:
                    printed.seek(0)
                    raise WalkError(f"no answer at {url} of {command[-1]}\n{printed.read()[-3000:]}")
                time.sleep(0.2)
            yield
        finally:
            stop(server)


def answers(url: str) -> bool:
    """Whether a page is there."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=10) as page:
            return bool(page.status == 200)
    except (URLError, OSError):
        return False


def stop(server: subprocess.Popen[bytes]) -> None:
    """End a server and what it has started: asked first, and killed after half a minute."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, ending)
        except ProcessLookupError:
            return
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            continue
