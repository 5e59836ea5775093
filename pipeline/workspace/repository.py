"""What DVC needs around it before it is started, and says badly that it lacks."""

from __future__ import annotations

import configparser
import logging
import time
from pathlib import Path

from osr.errors import InputError
from pipeline.workspace.git import git

_DVC = Path(".dvc")
_RWLOCK = _DVC / "tmp" / "rwlock"
_WRITING_S = 1.0  # in which a DVC at work has filled the file

logger = logging.getLogger("osr")


def check_repository() -> None:
    """Refuse to start DVC where it cannot run, and remove what a full disk has left of its locks.

    Raises:
        InputError: the project is in no git repository, as one that was downloaded as a zip.
    """
    if not _has_no_scm() and git("rev-parse", "--show-toplevel") is None:
        raise InputError(
            f"{Path.cwd()} is in no git repository, which DVC needs (a downloaded zip is none): type "
            "`git init && git add --all && git commit --message start` here, and then this command again."
        )
    if _is_empty(_RWLOCK):
        time.sleep(_WRITING_S)
        if _is_empty(_RWLOCK):
            _RWLOCK.unlink(missing_ok=True)
            logger.warning("%s was empty, as a full disk leaves it, and is removed", _RWLOCK)


def _has_no_scm() -> bool:
    """Whether DVC is told to do without git, as `osr init` does where there is none."""
    config = configparser.ConfigParser(interpolation=None)
    config.read([_DVC / "config", _DVC / "config.local"], encoding="utf-8")
    return config.getboolean("core", "no_scm", fallback=False)


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0
