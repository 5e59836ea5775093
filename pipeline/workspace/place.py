"""Where this process runs: the folder of the project, and its rank in a training of several processes."""

from __future__ import annotations

import os
from pathlib import Path

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")  # of torchrun, Fabric and Slurm


def workspace_root() -> Path:
    """The main workspace, also when DVC runs in a temporary copy of it.

    `DVC_ROOT` is trusted only for such a copy: an exported one leaks into other projects.
    """
    here = Path.cwd().resolve()
    if root := os.environ.get("DVC_ROOT"):
        main = Path(root).resolve()
        if here.is_relative_to(main / ".dvc" / "tmp" / "exps"):
            return main
    return here


def is_helper() -> bool:
    """Whether this process is one of a distributed training, and not its first."""
    return any(os.environ.get(rank, "0") != "0" for rank in _RANKS)
