"""What stands on standard error: all that osr tells, and the warnings of others."""

import subprocess
import sys

PROGRAM = """
import logging
from pipeline.workspace.logs import start_logging
start_logging()
for name in ("osr", "osr.train", "osrelated", "torch", "my_loss"):
    logging.getLogger(name).info("news")
    logging.getLogger(name).debug("detail")
    logging.getLogger(name).warning("doubt")
"""


def test_other_packages_tell_warnings_alone():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    doubts = [f"WARNING {name}: doubt" for name in ("osr", "osr.train", "osrelated", "torch", "my_loss")]
    news = ["INFO osr: news", "INFO osr.train: news"]
    assert sorted(ended.stderr.splitlines()) == sorted([*news, *doubts])
