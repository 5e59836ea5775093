"""A clone of the present commit, in which a published result is made anew."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

from osr.errors import InputError
from pipeline.workspace.git import git

FOLDER = Path(".osr/reproduce")

logger = logging.getLogger("osr.reproduce")


def present_commit() -> str:
    """The commit that the clones have; changes that are no part of it are told.

    Raises:
        InputError: there is none.
    """
    commit = git("rev-parse", "HEAD")
    if commit is None:
        raise InputError("A result is made anew in a clone, which needs git and a commit.")
    if git("status", "--porcelain", "--untracked-files=no"):
        logger.warning("changes that are not committed are no part of it: %s counts", commit[:8])
    return commit


def clone_of(name: str, commit: str) -> Path:
    """The clone of a result at a commit; what an earlier call has left in it stays.

    Raises:
        InputError: git failed.
    """
    clone = FOLDER / name / "clone"
    if not (clone / ".git").exists():
        clone.parent.mkdir(parents=True, exist_ok=True)
        _git(".", "clone", "--quiet", ".", str(clone))
    _git(clone, "fetch", "--quiet", "origin", commit)
    _git(clone, "checkout", "--quiet", "--force", commit)
    return clone


def environment_of(clone: Path) -> dict[str, str]:
    """Of a program that runs there: its code is found, and no row is written to a store that goes away."""
    return {**os.environ, "OSR_TRACKING": "off", "PYTHONPATH": str(clone.absolute())}


def _git(folder: str | Path, *arguments: str) -> None:
    answer = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise InputError(f"git {arguments[0]} in {folder} failed: {' '.join(answer.stderr.split())}")
