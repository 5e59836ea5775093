"""DVC's command line in processes that need not import DVC.

One process has imported it and forks another for each command, as `pipeline/tracking/forkserver.py` does with
MLflow for stages.
"""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

LOADED = [
    "dvc.cli.parser",
    "dvc.data_cloud",
    "dvc.repo.reproduce",
    "dvc.repo.experiments",
    "dvc.stage.run",
    "dvc_render",
]


def run_dvc(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float
) -> tuple[int, str]:
    """What `python -m dvc` does with these arguments, in this folder and environment.

    As with `subprocess.run`, it returns when the last process ends that the command left with its output.

    Args:
        arguments: those behind `dvc`.
        cwd: the working directory.
        env: all variables that there are.
        timeout_s: after so many seconds it is killed.

    Returns:
        Its exit status, and all that it printed.

    Raises:
        subprocess.TimeoutExpired: it was killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(list(arguments), str(cwd), dict(env), writer))
    process.start()
    writer.close()
    deadline, said = time.monotonic() + timeout_s, b""
    with reader:
        while reader.poll(max(0.0, deadline - time.monotonic())):
            part = os.read(reader.fileno(), 2**16)
            if not part:
                process.join()
                return process.exitcode, said.decode("utf-8")
            said += part
    process.kill()
    process.join()
    raise subprocess.TimeoutExpired(["dvc", *arguments], timeout_s, said)


def _main(arguments: list[str], cwd: str, env: dict[str, str], writer: Connection) -> None:
    for number in (1, 2):
        os.dup2(writer.fileno(), number)
    writer.close()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["dvc", *arguments]
    from dvc.cli import main

    sys.exit(main(arguments))
