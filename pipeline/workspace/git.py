"""What git says of the working directory."""

from __future__ import annotations

import os
import subprocess

NOBODY = {"name": "osr", "email": "osr@localhost"}


def nobody(*where: str) -> dict[str, str]:
    """Who commits where git was not told who does: variables of its environment, or none.

    `dvc exp run` ends at once without an author, whatever has been done by then.

    Args:
        where: options of git in front of its command, such as `-C` and a folder.
    """
    if all(git(*where, "config", f"user.{what}") for what in NOBODY):
        return {}
    return {
        f"GIT_{who}_{what.upper()}": text for who in ("AUTHOR", "COMMITTER") for what, text in NOBODY.items()
    }


def git(*arguments: str, **environment: str) -> str | None:
    """Git's answer as text without blanks around it, or None where `git_output` has none."""
    answer = git_output(*arguments, **environment)
    return None if answer is None else answer.decode("utf-8").strip()


def git_output(*arguments: str, **environment: str) -> bytes | None:
    """Git's answer, or None where there is no git, no repository, no commit, or nothing of that name."""
    env = {**os.environ, **environment}
    try:
        answer = subprocess.run(["git", *arguments], capture_output=True, check=False, env=env)
    except FileNotFoundError:
        return None
    return answer.stdout if answer.returncode == 0 else None
