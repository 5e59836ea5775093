"""Property tests run without a deadline: a machine that is busy is no mistake of ours.

One thread per test process: pytest-xdist already keeps every core busy. The files that drive whole pipelines
start first, so that no core waits for them at the end. What osr-runtime shares with osr is copied before all.
What the tests' imports leave, over a million objects, stays, so that the garbage collector passes it over.
"""

import gc
import os
import runpy
from pathlib import Path

import pytest
from hypothesis import settings

LONG_FILES = ("test_pipeline", "test_tracking", "test_sweep", "test_many_processes", "test_training_presets")

gc.disable()
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

runpy.run_path(str(Path(__file__).parents[1] / "runtime/copies.py"), run_name="__main__")
settings.register_profile("osr", deadline=None)
settings.load_profile("osr")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONG_FILES)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
