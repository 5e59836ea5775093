"""How a stage runs: settings first, then the work inside its MLflow row, its metrics file last."""

from __future__ import annotations

import argparse
import errno
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from osr.errors import InputError, sentence_of
from osr.params import Params, load_params
from pipeline.tracking.stage_run import Row, stage_run
from pipeline.workspace.files import write_json
from pipeline.workspace.interrupts import STATUS, is_interrupt, while_ending, while_working
from pipeline.workspace.logs import start_logging
from pipeline.workspace.shipped import check_version
from pipeline.workspace.stages import PARAMS, STAGES
from pipeline.workspace.stamps import check_stamps, write_stamp
from pipeline.workspace.swap import discard, finish_swaps, new, written_aside

Metrics = dict[str, Any]
Body = Callable[[Params, Row], Metrics]

_FULL_BYTES = 1 << 20  # free, when a write has failed

logger = logging.getLogger("osr")


def run_stage(name: str, body: Body, description: str | None) -> None:
    """Run one stage as a command.

    Bad input ends with its sentence on stderr and exit status 1. After any failure the earlier results
    are where they were: the stage writes aside.

    Args:
        name: of the stage, as in dvc.yaml.
        body: does the work and writes the stage's files; returns its metrics, which may be nested.
        description: for --help.
    """
    parser = argparse.ArgumentParser(prog=f"dvc repro {name}", description=description)
    parser.epilog = f"Settings come from {PARAMS}; override one with `dvc exp run -S key=value`."
    parser.parse_args()
    start_logging()
    while_working()
    try:
        finish_swaps()
        check_version()
        params = load_params(PARAMS)
        with stage_run(name, params) as row, _telling_of_full_disks(name), written_aside(name):
            check_stamps(name)
            metrics = body(params, row)
            write_stamp(name, metrics)
            write_json(new(STAGES[name].metrics), metrics)
    except BaseException as error:
        if is_interrupt(error):  # also where a reader calls it a damaged file
            sys.stderr.write(f"ERROR: {name} was interrupted; the next `osr run` goes on with it.\n")
            sys.exit(STATUS)
        if (told := sentence_of(error)) is not None:
            sys.exit(f"ERROR: {told}")
        raise
    finally:
        discard(name)
        while_ending()


@contextmanager
def _telling_of_full_disks(name: str) -> Iterator[None]:
    """Turn what libraries raise on a full disk, each its own, into one sentence.

    Raises:
        InputError: the disk is full.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        refused = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not refused and shutil.disk_usage(Path.cwd()).free > _FULL_BYTES:
            raise
        raise InputError(
            f"the disk is full ({error}); make room, and the next `osr run` goes on with {name}."
        ) from error
