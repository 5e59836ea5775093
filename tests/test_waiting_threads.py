"""How the threads of our programs wait for each other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TELL = "import pipeline, os; print(os.environ['OMP_WAIT_POLICY'])"


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "active"}])
def test_waiting_threads_leave_their_core_to_others_unless_told_otherwise(given: dict[str, str]) -> None:
    others = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment = others | {"PYTHONPATH": str(Path(__file__).parents[1])} | given
    told = subprocess.check_output([sys.executable, "-c", TELL], env=environment, text=True)
    assert told.strip() == given.get("OMP_WAIT_POLICY", "passive")
