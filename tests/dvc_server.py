"""DVC's command line in processes that need not import DVC, which takes a second each time.

One process has imported it and forks another for each command, as `pipeline/tracking/forkserver.py` does with
MLflow for stages.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
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
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: Path, timeout_s: float
) -> int:
    """What `python -m dvc` does with these arguments, in this folder and environment.

    Args:
        arguments: those behind `dvc`.
        cwd: the working directory.
        env: all variables that there are.
        output: file that gets what is printed.
        timeout_s: after so many seconds it is killed.

    Returns:
        Its exit status.

    Raises:
        subprocess.TimeoutExpired: it was killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    process = context.Process(target=_main, args=(list(arguments), str(cwd), dict(env), str(output)))
    process.start()
    process.join(timeout_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise subprocess.TimeoutExpired(["dvc", *arguments], timeout_s)
    return process.exitcode


def _main(arguments: list[str], cwd: str, env: dict[str, str], output: str) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(descriptor, number)
    sys.argv = ["dvc", *arguments]
    from dvc.cli import main

    sys.exit(main(arguments))
