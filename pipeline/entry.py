"""How a stage runs: settings first, then the work inside its MLflow row, its metrics file last."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from osr.config import Params, load_params
from osr.errors import InputError
from pipeline.execution import Row
from pipeline.restore import restore_outputs
from pipeline.stages import PARAMS, STAGES
from pipeline.stamps import check_stamps, write_stamp
from pipeline.tracking import stage_run

Metrics = dict[str, Any]
Body = Callable[[Params, Row], Metrics]

INTERRUPTED = 128 + signal.SIGINT

logger = logging.getLogger("osr")


def run_stage(
    name: str, body: Body, description: str | None, report: Callable[[], str] | None = None
) -> None:
    """Run one stage as a command.

    Bad input ends with its sentence on stderr and exit status 1. After any failure the outputs that DVC
    deleted before it started the stage are brought back, so that earlier results stay.

    Args:
        name: of the stage, as in dvc.yaml.
        body: does the work and writes the stage's files; returns its metrics, which may be nested.
        description: for --help.
        report: what --report prints instead of running; None for a stage without that option.
    """
    if _printed_report(name, description, report):
        return
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for chatty in ("alembic", "fontTools"):  # of MLflow, and of matplotlib's PDFs
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        params = load_params(PARAMS)
        with stage_run(name, params) as row:
            check_stamps(name)
            metrics = body(params, row)
            write_stamp(name)
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


def _printed_report(name: str, description: str | None, report: Callable[[], str] | None) -> bool:
    """Read the command line; whether it asked for the report, which then is printed."""
    parser = argparse.ArgumentParser(prog=f"dvc repro {name}", description=description)
    parser.epilog = f"Settings come from {PARAMS}; override one with `dvc exp run -S key=value`."
    if report is not None:
        told = "print what this stage made, and run nothing"
        parser.add_argument("--report", action="store_true", help=told)
    arguments = parser.parse_args()
    if report is None or not arguments.report:
        return False
    try:
        sys.stdout.write(report())
    except InputError as error:
        sys.exit(f"ERROR: {error}")
    return True


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, whole or not at all; NaN becomes null, which JSON has instead."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    text = json.dumps(_without_nan(content), indent=2, sort_keys=True, allow_nan=False)
    aside.write_text(text + "\n", encoding="utf-8")
    aside.replace(path)


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and content != content else content
