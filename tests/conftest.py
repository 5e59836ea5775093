"""Property tests run without a deadline: a machine that is busy is no mistake of ours.

One thread per test process: pytest-xdist already keeps every core busy.
"""

import os

from hypothesis import settings

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

settings.register_profile("osr", deadline=None)
settings.load_profile("osr")
