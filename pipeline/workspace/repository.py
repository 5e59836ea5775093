"""What DVC needs around it before it is started, and says badly that it lacks."""

from __future__ import annotations

import configparser
import fcntl
import json
import logging
import time
from pathlib import Path
from typing import Any

import psutil

from osr.errors import InputError
from osr.stored.files import write_whole
from pipeline.workspace.git import git

_DVC = Path(".dvc")
_RWLOCK = _DVC / "tmp" / "rwlock"  # who of DVC reads and writes which file
_RWLOCK_GUARD = _DVC / "tmp" / "rwlock.lock"  # held while the file above is changed; DVC leaves it, unlocked
_WRITING_S = 1.0  # in which a DVC at work has filled the file

logger = logging.getLogger("osr")


def check_repository() -> None:
    """Refuse to start DVC where it cannot run, and remove what a full disk or a kill has left of its locks.

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
    if _forget_the_killed():
        logger.info("an earlier run here was killed: what it had finished stays, and this one does the rest")


def _forget_the_killed() -> bool:
    """Take processes that are gone out of DVC's lock file; it would warn of each file that they held.

    DVC does the same, but line by line. What it cannot read it is left to complain of. With its setting
    core.hardlink_lock (network file systems) the guard is locked by being there: then DVC does it alone.

    Returns:
        whether there was one.
    """
    if not _RWLOCK.is_file() or not _RWLOCK_GUARD.is_file() or _RWLOCK_GUARD.stat().st_nlink > 1:
        return False
    with _RWLOCK_GUARD.open("r+") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = json.loads(_RWLOCK.read_text(encoding="utf-8"))
            kept = {mode: _of_living(holders) for mode, holders in held.items()}
        except (BlockingIOError, ValueError, AttributeError, TypeError, KeyError, OverflowError):
            return False
        if kept == held:
            return False
        write_whole(_RWLOCK, json.dumps(kept).encode())
        return True


def _of_living(holders: dict[str, Any]) -> dict[str, Any]:
    """Files and who holds them, several readers or one writer, without processes that are gone."""
    found: dict[str, Any] = {}
    for path, who in holders.items():
        living = [
            each for each in (who if isinstance(who, list) else [who]) if psutil.pid_exists(each["pid"])
        ]
        if living:
            found[path] = living if isinstance(who, list) else living[0]
    return found


def _has_no_scm() -> bool:
    """Whether DVC is told to do without git, as `osr init` does where there is none."""
    config = configparser.ConfigParser(interpolation=None)
    config.read([_DVC / "config", _DVC / "config.local"], encoding="utf-8")
    return config.getboolean("core", "no_scm", fallback=False)


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0
