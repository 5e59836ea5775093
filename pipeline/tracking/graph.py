"""The graph of dvc.yaml: which stages a stage rests on, and which are up to date."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from osr.errors import InputError
from pipeline.workspace.stages import STAGES

DVC_FILE = Path("dvc.yaml")


def ancestors(name: str) -> tuple[str, ...]:
    """The stages whose outputs `name` reads, directly or through others; () without dvc.yaml."""
    if not DVC_FILE.exists():
        return ()
    content = YAML(typ="safe", pure=True).load(DVC_FILE.read_text(encoding="utf-8"))
    stages = {key: value for key, value in content["stages"].items() if key in STAGES}
    inputs = {key: stage_paths(value, "deps") for key, value in stages.items()}
    outputs = {key: stage_paths(value, "outs", "metrics", "plots") for key, value in stages.items()}
    found: set[str] = set()
    waiting = [name]
    while waiting:
        child = waiting.pop()
        parents = {
            parent
            for parent in stages
            if parent != child
            and any(_overlap(dep, out) for dep in inputs.get(child, ()) for out in outputs[parent])
        }
        waiting += parents - found
        found |= parents
    return tuple(stage for stage in STAGES if stage in found)


def up_to_date() -> tuple[str, ...]:
    """The stages that DVC would not run now, in pipeline order.

    A stage counts when `dvc status` reports no difference between dvc.lock and the workspace (command,
    params, dependencies, outputs), neither for it nor for a stage it rests on.

    Raises:
        InputError: `dvc status` failed; the message is DVC's.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise InputError(f"`dvc status` failed: {answer.stderr.strip() or answer.stdout.strip()}")
    changed = set(json.loads(answer.stdout))
    return tuple(name for name in STAGES if not changed & {name, *ancestors(name)})


def stage_paths(stage: dict[str, Any], *sections: str) -> list[PurePosixPath]:
    """The paths of some sections of a stage; an entry is a path, or {path: options}."""
    entries = [entry for section in sections for entry in stage.get(section) or ()]
    return [PurePosixPath(next(iter(entry)) if isinstance(entry, dict) else entry) for entry in entries]


def _overlap(one: PurePosixPath, other: PurePosixPath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)
