"""How a stage runs: settings first, then the work inside its MLflow row, its metrics file last."""

from __future__ import annotations

import argparse
import errno
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any

from osr.errors import InputError
from osr.params import Params, load_params
from pipeline.tracking.stage_run import Row, stage_run
from pipeline.workspace.files import write_json
from pipeline.workspace.restore import restore_outputs
from pipeline.workspace.shipped import check_version
from pipeline.workspace.stages import PARAMS, STAGES
from pipeline.workspace.stamps import check_stamps, write_stamp

Metrics = dict[str, Any]
Body = Callable[[Params, Row], Metrics]

INTERRUPTED = 128 + signal.SIGINT

logger = logging.getLogger("osr")


def run_stage(name: str, body: Body, description: str | None) -> None:
    """Run one stage as a command.

    Bad input ends with its sentence on stderr and exit status 1. After any failure the outputs that DVC
    deleted before it started the stage are brought back, so that earlier results stay.

    Args:
        name: of the stage, as in dvc.yaml.
        body: does the work and writes the stage's files; returns its metrics, which may be nested.
        description: for --help.
    """
    parser = argparse.ArgumentParser(prog=f"dvc repro {name}", description=description)
    parser.epilog = f"Settings come from {PARAMS}; override one with `dvc exp run -S key=value`."
    parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # of matplotlib's PDFs
    try:
        check_version()
        params = load_params(PARAMS)
        with stage_run(name, params) as row:
            check_stamps(name)
            metrics = body(params, row)
            write_stamp(name, metrics)
            write_json(STAGES[name].metrics, metrics)
    except InputError as error:
        restore_outputs(name)
        sys.exit(f"ERROR: {error}")
    except KeyboardInterrupt:
        restore_outputs(name)
        sys.stderr.write(f"ERROR: {name} was interrupted; the next `dvc repro` goes on with it.\n")
        sys.exit(INTERRUPTED)
    except OSError as error:
        restore_outputs(name)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(
            f"ERROR: the disk is full ({error}); make room, and the next `dvc repro` goes on with {name}."
        )
    except BaseException:
        restore_outputs(name)
        raise
