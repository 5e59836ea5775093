"""What `mlflow run .` starts: the pipeline with DVC, then a sync, so that MLflow's own row is complete.

mlflow run . --env-manager local -P preset=digits_quick -P overrides="train.lr=1e-3 split.trial=1"
mlflow run . --env-manager local -e train                      # the stage and those it rests on
python -m pipeline.launch --preset digits_quick --overrides "train.lr=1e-3"
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from osr.errors import InputError
from pipeline.execution import failure
from pipeline.overrides import check_overrides, split_overrides
from pipeline.preset import assignments, load_presets
from pipeline.stages import STAGES
from pipeline.store import connect, store_may_fail, workspace_root
from pipeline.tracking import is_off, sync

LAUNCH = "osr.launch"

logger = logging.getLogger("osr.tracking")


def dvc_command(overrides: Sequence[str], stage: str | None = None) -> list[str]:
    """`dvc repro`, or `dvc exp run` when something is overridden; only up to `stage` if there is one."""
    dvc = [sys.executable, "-m", "dvc"]
    target = [] if stage is None else [stage]
    if not overrides:
        return [*dvc, "repro", *target]
    return [*dvc, "exp", "run", *(part for override in overrides for part in ("-S", override)), *target]


def launch(overrides: Sequence[str], stage: str | None = None) -> int:
    """Run the pipeline and complete the row; the status is DVC's, or 1 when the row stays incomplete."""
    command = dvc_command(overrides, stage)
    logger.info("%s", " ".join(command[2:]))
    # The stages start as `python -m …`: it must be the Python of this environment.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    status = subprocess.run(command, env={**os.environ, "PATH": path}, check=False).returncode
    if status == 0:
        return 0 if sync() else 1
    reason = f"DVC ended with exit status {status}"
    logger.error("%s", reason)
    _mark_failed(f"FAILED: {reason}")
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.launch", description=launch.__doc__)
    parser.add_argument("--preset", default="", help="names of files in presets/, separated by blanks")
    parser.add_argument(
        "--overrides", default="", help='settings that differ from params.yaml: "train.lr=1e-3 split.trial=1"'
    )
    parser.add_argument("--stage", choices=STAGES, help="run no further than this stage")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        preset = assignments(load_presets(options.preset.split())) if options.preset else []
        overrides = [*preset, *split_overrides(options.overrides)]
        check_overrides(overrides)
        return launch(overrides, options.stage)
    except InputError as error:
        logger.error("%s", error)
        _mark_failed(failure(error))
        return 1


def _mark_failed(reason: str) -> None:
    """Set MLflow's own row to FAILED, and say why: a stage that ended well before left it FINISHED."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if run_id is None or is_off():
        return
    with store_may_fail("the row does not say that the pipeline failed."):
        client = connect(workspace_root()).client
        client.set_tag(run_id, LAUNCH, reason)
        if client.get_run(run_id).info.status in ("RUNNING", "FINISHED"):
            client.set_terminated(run_id, "FAILED")


if __name__ == "__main__":
    sys.exit(main())
