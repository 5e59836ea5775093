"""DVC as a program that commands run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.workspace.git import nobody


def finished(command: Sequence[str], env: Mapping[str, str] | None = None, *, cwd: Path | None = None) -> int:
    """The status of a program that Ctrl-C reaches, too: it is left the time to put away what it began.

    Who presses it again need not wait. (`subprocess.run` would kill DVC after a quarter of a second.)
    """
    env = os.environ if env is None else env
    program = subprocess.Popen(command, env={**nobody("-C", str(cwd or ".")), **env}, cwd=cwd)
    try:
        return program.wait()
    except KeyboardInterrupt:
        program.wait()
        raise
