"""Earlier results stay when a stage fails: DVC deletes outputs first; its cache or git holds them."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.workspace.git import git_output
from pipeline.workspace.stages import LOCK

logger = logging.getLogger("osr.restore")


def restore_outputs(stage: str) -> None:
    """Put back what dvc.lock records as the outputs of `stage`; without a record, leave everything as it is.

    Files the failed stage had begun to write are replaced. DVC's cache holds every file that was made in this
    clone, metrics included; in a fresh clone, git holds the metrics. `dvc checkout` cannot do this: DVC has
    the outputs of a running stage locked.
    """
    outputs = _recorded_outputs(stage)
    if not outputs:
        return
    try:
        cache = _cache_folder()
    except (OSError, subprocess.CalledProcessError) as error:
        logger.warning(
            "the earlier results of %s cannot be brought back: DVC names no cache (%s)", stage, error
        )
        return
    for output in outputs:
        path = Path(output["path"])
        files = list(_cached_files(path, output["md5"], cache))
        if all(source.is_file() for _, source in files):
            _clear(path)
            for target, source in files:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        elif (content := _committed(path, output["md5"])) is not None:
            _clear(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        elif (cache / "files").is_dir():  # without it nothing was made in this clone, so nothing is lost
            logger.warning(
                "%s: what dvc.lock records is neither in DVC's cache nor in git, and cannot be brought back",
                path,
            )


def _recorded_outputs(stage: str) -> list[dict[str, Any]]:
    if not LOCK.is_file():
        return []
    lock = YAML(typ="safe", pure=True).load(LOCK.read_text(encoding="utf-8")) or {}
    outputs: list[dict[str, Any]] = lock.get("stages", {}).get(stage, {}).get("outs", [])
    return outputs


def _cache_folder() -> Path:
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def _clear(path: Path) -> None:
    """Remove what the failed stage left in the place of an output."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _cached_files(path: Path, digest: str, cache: Path) -> Iterator[tuple[Path, Path]]:
    """Pairs of target and source in the cache; a folder's entry lists its files."""
    entry = _object(cache, digest)
    if not digest.endswith(".dir"):
        yield path, entry
    elif entry.is_file():
        for file in json.loads(entry.read_text(encoding="utf-8")):
            yield path / file["relpath"], _object(cache, file["md5"])
    else:
        yield path, entry


def _committed(path: Path, digest: str) -> bytes | None:
    """The file as git's HEAD holds it, if that is what dvc.lock records."""
    content = git_output("show", f"HEAD:./{path.as_posix()}")
    if content is None or hashlib.md5(content, usedforsecurity=False).hexdigest() != digest:
        return None
    return content


def _object(cache: Path, digest: str) -> Path:
    return cache / "files" / "md5" / digest[:2] / digest[2:]
