"""The six DVC stages and what they share: thin entry points over `osr`."""

import os

from pipeline.workspace.interrupts import while_loading

while_loading()
# OpenMP reads it once, when PyTorch is loaded. Threads that spin while they wait for one that has no core
# multiply the processor time of a busy machine; how they wait changes no result.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
