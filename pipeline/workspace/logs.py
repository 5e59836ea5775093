"""What stands on standard error of commands and stages."""

from __future__ import annotations

import logging


def start_logging() -> None:
    """Show what osr tells, from INFO on; of other packages warnings alone."""
    shown = logging.StreamHandler()
    shown.addFilter(_is_shown)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", handlers=[shown])


def _is_shown(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == "osr"
