"""What git says of the working directory."""

from __future__ import annotations

import os
import subprocess


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
