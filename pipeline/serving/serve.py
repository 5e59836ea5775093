"""Command serve: the exported classifier behind HTTP, for applications in any language."""

from __future__ import annotations

import argparse
import sys

from osr.devices import set_cpu_threads
from osr.inference.classifier import OpenSetClassifier
from pipeline.serving.bodies import Limits
from pipeline.serving.service import create_app

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        InputError: the folder is none that `osr export` made, or was changed.
    """
    import uvicorn

    classifier = OpenSetClassifier.load(options.folder, allow_code=options.allow_code)
    set_cpu_threads(options.threads or "auto")
    limits = Limits(body_bytes=options.max_megabytes << 20, seconds=options.seconds)
    if options.host not in LOOPBACK:
        sys.stderr.write(f"Other machines reach {options.host}: nobody has to log in, so keep them out.\n")
    uvicorn.run(
        create_app(classifier, limits),
        host=options.host,
        port=options.port,
        log_level="warning" if options.quiet else "info",
        timeout_keep_alive=5,
        server_header=False,
    )
    return 0
