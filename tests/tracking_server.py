"""An MLflow server that keeps rows in PostgreSQL and passes artifacts on, for tests; all on 127.0.0.1.

python tests/tracking_server.py FOLDER    # prints what to export, and runs until Ctrl-C
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

START_S = 300
SUPERUSER = "osr"


def program(name):
    """A program of PostgreSQL, which Debian keeps off the PATH; None where there is none."""
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(packaged[-1]) if packaged else None)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Database:
    """A PostgreSQL server with data of its own; its password is made up here, and only in the environment."""

    def __init__(self):
        # PostgreSQL refuses to run as root, and its own user may not look into the folders of root.
        self.as_user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        self.folder = Path(tempfile.mkdtemp(prefix="osr-postgres-"))
        self.port = free_port()
        password = secrets.token_hex(16)
        self.environment = {"PGPASSWORD": password}
        secret = self.folder / "password"
        secret.write_text(password)
        if self.as_user:
            for path in (self.folder, secret):
                shutil.chown(path, "postgres", "postgres")
        self._run("initdb", "-U", SUPERUSER, "--auth=scram-sha-256", f"--pwfile={secret}")
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories="
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    @property
    def uri(self):
        """Without the password: libpq takes it from PGPASSWORD. SQLAlchemy's own choice is another driver."""
        return f"postgresql+psycopg2://{SUPERUSER}@127.0.0.1:{self.port}/postgres"

    def stop(self):
        self._run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(self.folder)

    def _run(self, name, *arguments):
        command = [program(name), "-D", str(self.folder / "data"), *arguments]
        quiet = {"stdout": subprocess.DEVNULL, "cwd": self.folder}
        subprocess.run(command, check=True, timeout=START_S, **quiet, **self.as_user)


class Server:
    """`mlflow server` in front of a database; it can be killed and started again."""

    def __init__(self, folder, database):
        self.folder = folder
        self.database = database
        self.port = free_port()
        self.process = None

    @property
    def uri(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.database.uri]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--workers", "2"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        extra = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **self.database.environment}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | extra,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not self.answers():
            log = (self.folder / "server.log").read_text()
            assert self.process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.5)

    def answers(self):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
            return answer.status == 200
        return False

    def kill(self):
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running(folder):
    """A server whose artifacts and log lie in `folder`."""
    database = Database()
    try:
        server = Server(folder, database)
        try:
            server.start()
            yield server
        finally:
            server.kill()
    finally:
        database.stop()


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    place.mkdir(parents=True, exist_ok=True)
    with running(place) as started, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(f"export MLFLOW_TRACKING_URI={started.uri}\n")
        sys.stdout.flush()
        signal.pause()
