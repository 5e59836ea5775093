"""Which code and settings the working tree holds, as git tells it; the same in every clone of a commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from osr.settings.reading import parse_yaml
from pipeline.workspace.git import git
from pipeline.workspace.stages import PARAMS

SOURCES = ("osr", "pipeline", PARAMS.as_posix())


@dataclass(frozen=True)
class CodeState:
    """Where the sources of a run stand.

    Args:
        commit: the last one that changed them, 40 hex digits; empty outside git.
        changed: source files that differ from it, params.yaml apart.
        settings: params.yaml of that commit; None outside git.
    """

    commit: str
    changed: tuple[str, ...]
    settings: dict[str, Any] | None


def code_state() -> CodeState:
    """The state of osr/, pipeline/ and params.yaml in the working directory."""
    commit = git("log", "-1", "--format=%H", "--", *SOURCES) or ""
    if not commit:
        return CodeState("", (), None)
    files = [
        *(git("diff", "HEAD", "--name-only", "--relative", "--", *SOURCES) or "").splitlines(),
        *(git("ls-files", "--others", "--exclude-standard", "--", *SOURCES) or "").splitlines(),
    ]
    return CodeState(commit, tuple(name for name in files if name != PARAMS.as_posix()), _settings())


def _settings() -> dict[str, Any] | None:
    text = git("show", f"HEAD:./{PARAMS.as_posix()}")
    try:
        content = parse_yaml(text) if text else None
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
