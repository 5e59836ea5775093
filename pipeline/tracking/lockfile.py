"""What dvc.lock says when the running stage has ended: with it `dvc checkout` brings the results back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.tracking.graph import DVC_FILE, stage_paths
from pipeline.workspace.files import md5_of
from pipeline.workspace.lock import recorded_stages


def lock_text(names: Collection[str], running: str | None = None) -> str:
    """What dvc.lock says of some stages.

    Args:
        names: of the stages.
        running: the stage of this process. DVC writes down what it made only after it has ended, so its
            outputs are looked at here; what it read is left out.
    """
    wanted = [item for item in recorded_stages().items() if item[0] in names and item[0] != running]
    kept = [f"  {name}:\n{entry}" for name, entry in wanted]
    if running is not None and DVC_FILE.exists():
        kept.append(f"  {running}: {json.dumps(_entry(running))}\n")
    return "".join(["schema: '2.0'\nstages:\n", *kept])


def _entry(name: str) -> dict[str, Any]:
    """Command and outputs of a stage that has just made them."""
    stage = YAML(typ="safe", pure=True).load(DVC_FILE.read_text(encoding="utf-8"))["stages"][name]
    paths = [Path(path) for path in stage_paths(stage, "outs", "metrics", "plots")]
    return {"cmd": stage["cmd"], "outs": [_output(path) for path in sorted(paths) if path.exists()]}


def _output(path: Path) -> dict[str, Any]:
    """How DVC names a file or a folder: by the MD5 of its content, or of the list of its files."""
    if path.is_file():
        return {"path": path.as_posix(), "hash": "md5", "md5": md5_of(path), "size": path.stat().st_size}
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    listed = json.dumps([{"md5": md5_of(file), "relpath": name} for name, file in files], sort_keys=True)
    return {
        "path": path.as_posix(),
        "hash": "md5",
        "md5": hashlib.md5(listed.encode(), usedforsecurity=False).hexdigest() + ".dir",
        "size": sum(file.stat().st_size for _, file in files),
        "nfiles": len(files),
    }
