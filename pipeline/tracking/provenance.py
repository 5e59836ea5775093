"""What a row says of where it comes from: commit, changed files, dvc.lock, machine, libraries, way back."""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from pipeline.workspace.files import md5_of
from pipeline.workspace.git import git, git_output
from pipeline.workspace.stages import LOCK, METRICS

CHANGES = "changes.patch"
_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "lightning-fabric", "mlflow", "dvc")
# Results follow from code and params; dvc.lock and metrics are results.
_NOT_SOURCE = (":(exclude)dvc.lock", ":(exclude)metrics")
_MAX_TAG_LENGTH = 4000
_MAX_PATCH_BYTES = 20 << 20
_GIB = 1 << 30


class Provenance(NamedTuple):
    """Where a row comes from.

    Args:
        tags: of the row.
        patch: what differs from the commit, for `git apply`.
        way_back: the commands that bring the files of a finished row back; RUN_ID stands for the row's id.
    """

    tags: dict[str, str]
    patch: bytes = b""
    way_back: str = ""


def provenance(hardware: str) -> Provenance:
    """What a stage that runs on `hardware` tells the row that it joins."""
    tags = {"osr.hardware": hardware, "osr.versions": versions()}
    if LOCK.is_file():
        tags["osr.dvc.lock"] = md5_of(LOCK)
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return Provenance(tags)
    # Not `status --porcelain`, whose names need parsing: changed files, then files git does not know yet.
    files = [
        *_lines(git("diff", "HEAD", "--name-only", "--relative", "--", ".", *_NOT_SOURCE)),
        *_lines(git("ls-files", "--others", "--exclude-standard", "--", ".", *_NOT_SOURCE)),
    ]
    code = [name for name in files if name != "params.yaml"]
    patch = changes_patch() if files else b""
    return Provenance(
        tags
        | {
            "mlflow.source.git.commit": commit,
            "osr.git.dirty": "true" if code else "false",
            "osr.git.dirty_files": ", ".join(code)[:_MAX_TAG_LENGTH],
        },
        patch,
        _way_back(commit, changed=bool(files), kept=bool(patch)),
    )


def _way_back(commit: str, *, changed: bool, kept: bool) -> str:
    # What DVC does not cache is one folder of artifacts: metrics, dvc.lock, and what differs from the commit.
    # `dvc exp apply` would be shorter, but DVC knows no experiment whose queue worker was killed.
    steps = [
        "git stash --include-untracked",
        f"git checkout {commit}",
        f"mlflow artifacts download --run-id RUN_ID --dst-path . --artifact-path {METRICS}",
        f"mv {METRICS / LOCK} .",
    ]
    if changed and kept:
        steps += [f"git apply {METRICS / CHANGES}", f"rm {METRICS / CHANGES}"]
    elif changed:
        steps.append("echo 'What differed from the commit was too large and is not kept.'")
    return " && ".join([*steps, "dvc checkout"])


def changes_patch() -> bytes:
    """What differs from the commit, new files included, for `git apply`; empty when it is too large.

    Made with an index of its own, so that the user's stays as it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        own = git("rev-parse", "--git-path", "index")
        if own is not None and Path(own).is_file():
            shutil.copyfile(own, index["GIT_INDEX_FILE"])  # with it, unchanged files are not read again
        if git("add", "--all", "--", ".", *_NOT_SOURCE, **index) is None:
            return b""
        patch = git_output("diff", "--cached", "--binary", "HEAD", "--", ".", *_NOT_SOURCE, **index) or b""
    return patch if len(patch) <= _MAX_PATCH_BYTES else b""


def hardware() -> str:
    """Processor, cores and memory; the accelerators, too, once PyTorch is loaded."""
    import psutil

    parts = [
        f"{_processor()}, {os.cpu_count()} cores",
        f"{psutil.virtual_memory().total / _GIB:.0f} GiB",
    ]
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        parts += [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(parts)


def versions() -> str:
    """Of Python and of the libraries that results depend on."""
    found = [f"python {platform.python_version()}"]
    for library in _LIBRARIES:
        try:
            found.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def user() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user id has no name
        return str(os.getuid())


def _processor() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _lines(text: str | None) -> list[str]:
    return text.splitlines() if text else []
